"""Where pictures are drawn: Axes, colours, and files that are either whole or not there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ..checks import describe, one_line
from ..storage import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILLION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#8C8C8C"
"""Seven of the eight colours of Okabe and Ito (2008), and a grey for guides."""

LOG_PX, VLB, KL, HELD_OUT = BLACK, BLUE, ORANGE, VERMILLION
"""One colour for each quantity, in all pictures."""

_ORDER = ("log p(x)", "KL", "VLB", "held-out", "kept", "p(z", "E[z", "q(z", "phi")

FORMATS = {".png": "png", ".svg": "svg", ".pdf": "pdf"}
"""By a file's suffix."""

_UNDATED = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
"""So that the same picture has the same bytes."""


def require() -> Any:
    """matplotlib with its Figure, Axes and ticks; an ImportError of one line where it is not there."""
    try:
        import matplotlib
        import matplotlib.axes
        import matplotlib.figure
        import matplotlib.ticker
    except ImportError as error:
        raise ImportError(
            f"refvlm.plot: pictures need matplotlib ({one_line(error)}); pip install 'refvlm[plot]'"
        ) from None
    return matplotlib


def axes_or_new(ax: Axes | None, width: float = 6.4, height: float = 4.0) -> Axes:
    """`ax`, or the Axes of a new Figure of this size in inches."""
    matplotlib = require()
    if ax is None:
        return panels(width, height)[1][0]
    if not isinstance(ax, matplotlib.axes.Axes):
        raise TypeError(f"ax: got {describe(ax)}, wanted matplotlib Axes, such as those of pyplot.subplots(), or None")
    given: Axes = ax
    return given


def panels(width: float, height: float, count: int = 1) -> tuple[Figure, list[Axes]]:
    """A Figure that pyplot does not know, and its Axes below each other."""
    figure: Figure = require().figure.Figure(figsize=(width, height), layout="constrained", facecolor="white")
    axes = [figure.add_subplot(count, 1, n + 1) for n in range(count)]
    return figure, axes


def tidy(ax: Axes, title: str, *, legend: bool = True) -> None:
    """The title, the legend beside the picture, where it hides nothing, and no lines that say nothing."""
    ax.set_title(title, fontsize="medium", loc="left")
    ax.spines[["top", "right"]].set_visible(False)
    if legend:
        named = sorted(zip(*ax.get_legend_handles_labels(), strict=True), key=lambda pair: _rank(pair[1]))
        handles, labels = zip(*named, strict=True)
        ax.legend(handles, labels, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize="small")


def _rank(label: str) -> int:
    """Where a quantity stands in a legend: from above as in the picture."""
    return next((n for n, start in enumerate(_ORDER) if label.startswith(start)), len(_ORDER))


def whole_numbers(ax: Axes) -> None:
    """No ticks between epochs, rows or bits."""
    ax.xaxis.set_major_locator(require().ticker.MaxNLocator(integer=True))


def format_of(path: str | os.PathLike[str]) -> str:
    """The format that the suffix of `path` asks for; ValueError for any other than png, svg and pdf."""
    name = os.fspath(path)
    suffix = os.path.splitext(name)[1].lower()
    if suffix not in FORMATS:
        raise ValueError(f"{name}: got the suffix {suffix or 'none'!r}, wanted {', '.join(FORMATS)} for a picture")
    return FORMATS[suffix]


def save(picture: Axes | Figure, path: str | os.PathLike[str]) -> None:
    """Write a picture to `path`, whole or not at all; its suffix, .png, .svg or .pdf, is the format.

    picture: Axes as the functions here return them, of which the whole Figure is written, or a Figure. The same
    picture has the same bytes with the same matplotlib. Raises ValueError for another suffix and OSError where `path`
    cannot be written.
    """
    matplotlib, kind = require(), format_of(path)
    figure: Any = picture if isinstance(picture, matplotlib.figure.Figure) else picture.figure.canvas.figure
    with matplotlib.rc_context({"svg.hashsalt": "refvlm"}), atomic_write(path) as file:
        figure.savefig(file, format=kind, dpi=160, metadata=_UNDATED[kind])
