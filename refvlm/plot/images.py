"""What latents and models look like as images: receptive fields, and draws beside data."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..activations import sigmoid
from ..checks import as_binary, check_count, check_generator, describe
from ..model.bernoulli import Bernoulli
from ..model.latent_variable import BernoulliLVM
from ..model.mlp import MLP
from ..types import Floats
from .canvas import GREY, axes_or_new, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

MOST_TILES = 400
"""Images in a block, more of which would be too small."""

_GAP, _NAME = 0.15, 0.45
"""Between images, and where a name stands between them, in units of an image's size."""


class _Grid(NamedTuple):
    """Where so many images of (height, width) pixels lie, in pixels, row by row from `left`; y grows downwards."""

    images: int
    columns: int
    height: int
    width: int
    left: float = 0.0
    above: float = _GAP

    @property
    def right(self) -> float:
        """Of the last column."""
        return self.left + (self.columns * (1 + _GAP) - _GAP) * self.width

    @property
    def bottom(self) -> float:
        """Of the last row."""
        return (-(-self.images // self.columns) * (1 + self.above) - self.above) * self.height

    def corner(self, n: int) -> tuple[float, float]:
        """Upper left, of image n."""
        row, column = divmod(n, self.columns)
        return self.left + column * (1 + _GAP) * self.width, row * (1 + self.above) * self.height


def receptive_fields(model: BernoulliLVM, *, shape: tuple[int, int] | None = None, ax: Axes | None = None) -> Axes:
    """What every latent does to the pixels, an image for each z_k, k = 0 first, row by row; one scale for all.

    A decoder without hidden layers: row k of W, (L,), by which z_k = 1 moves the logits of the pixels whatever the
    other latents are: log-odds, in nats. Any other: by how much P(x_i = 1 | z), eq. (2), moves when z_k goes from 0 to
    1, with the other latents at the prior's mean beta (in a deep model the mean that its top layer's beta gives when
    it is passed down as probabilities); a decoder must take such values between 0 and 1.

    shape: (height, width) of an image, height * width = L, row-major; None: a square. Raises ValueError where L is no
    square and no shape is given, and for more than 400 latents.
    """
    height, width = _shape(model.observed, shape)
    _check_tiles("model", model.latents, "latent bits")
    if isinstance(model.decoder, MLP) and len(model.decoder.weights) == 1:
        fields, unit = model.decoder.weights[0], "change of log-odds / nats"
    else:
        fields, unit = _flips(model), "change of P(x_i = 1)"
    grid = _Grid(len(fields), _columns(len(fields), 1.8 * height / width), height, width, above=_NAME)
    ax = _axes_for(ax, grid, inches=6.2)
    largest = float(np.abs(fields).max()) or 1.0
    image = _draw(ax, grid, fields, "PuOr_r", -largest, largest)
    for k in range(len(fields)):
        x, y = grid.corner(k)
        ax.text(x + width / 2, y - 0.06 * height, f"z_{k}", ha="center", va="bottom", fontsize="small")
    figure = ax.get_figure()
    assert figure is not None
    figure.colorbar(image, ax=ax, fraction=0.04, pad=0.02, label=unit)
    tidy(ax, "receptive fields: z_k from 0 to 1", legend=False)
    return ax


def fantasies(
    model: BernoulliLVM,
    x: ArrayLike,
    rng: np.random.Generator,
    *,
    mean: bool = False,
    shape: tuple[int, int] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Rows of data on the left, as many draws from the model on the right, as images: x = 1 is black.

    x: (N, L), the rows to show, at most 400; rng draws z and then x, eqs. (1) and (2). mean: of the draws of z the
    means of x, P(x_i = 1 | z), in grey, in place of draws of x. shape as in `receptive_fields`. Raises ValueError or
    TypeError for an x that is not binary (N, L), has no rows or too many.
    """
    rows = as_binary("x", x, model.observed)
    height, width = _shape(model.observed, shape)
    check_count("rows of x", len(rows), 1)
    _check_tiles("x", len(rows), "rows")
    drawn, z = model.sample(len(rows), check_generator("rng", rng))
    shown = sigmoid(np.asarray(model.decoder.forward(z.astype(np.float64))[0])) if mean else drawn
    left = _Grid(len(rows), _columns(len(rows), height / width), height, width)
    right = left._replace(left=left.right + width)
    ax = _axes_for(ax, left, right)
    names = ("data", "means of x given z, z drawn" if mean else "drawn from the model")
    for grid, images, name in zip((left, right), (rows, shown), names, strict=True):
        _draw(ax, grid, images, "Greys", 0.0, 1.0)
        ax.text((grid.left + grid.right) / 2, -_GAP * height, name, ha="center", va="bottom")
    return ax


def _flips(model: BernoulliLVM) -> Floats:
    """By how much the mean image moves when a latent goes from 0 to 1, (K, L)."""
    start = np.repeat(_mean(model.prior)[None], model.latents, axis=0)
    ends = []
    for value in (0.0, 1.0):
        z = start.copy()
        np.fill_diagonal(z, value)
        ends.append(sigmoid(np.asarray(model.decoder.forward(z)[0])))
    difference: Floats = ends[1] - ends[0]
    return difference


def _mean(prior: Bernoulli | BernoulliLVM) -> Floats:
    """beta; of a model the probabilities that its own latents' mean gives."""
    logits: Floats
    if isinstance(prior, Bernoulli):
        logits = prior.logits
    else:
        logits = np.asarray(prior.decoder.forward(_mean(prior.prior)[None])[0])[0]
    mean: Floats = sigmoid(logits)
    return mean


def _shape(pixels: int, shape: tuple[int, int] | None) -> tuple[int, int]:
    """(height, width) of so many pixels."""
    side = math.isqrt(pixels)
    if shape is None:
        if side * side != pixels:
            height = next(h for h in range(side, 0, -1) if pixels % h == 0)
            raise ValueError(
                f"shape: L = {pixels} is no square, wanted (height, width) with height * width = {pixels}, such as "
                f"shape=({height}, {pixels // height})"
            )
        return side, side
    if np.shape(shape) != (2,):
        raise TypeError(f"shape: got {describe(shape)}, wanted (height, width)")
    height, width = (check_count(f"shape[{axis}]", size, 1) for axis, size in enumerate(shape))
    if height * width != pixels:
        raise ValueError(f"shape: got {(height, width)}, {height * width} pixels, wanted {pixels}, the model's L")
    return height, width


def _check_tiles(name: str, count: int, what: str) -> None:
    if count > MOST_TILES:
        raise ValueError(f"{name}: got {count} {what}, wanted at most {MOST_TILES}, an image each")


def _columns(count: int, ratio: float) -> int:
    """So many that the block is about as wide as it is high; ratio: an image's height by its width."""
    return min(count, max(1, math.ceil(math.sqrt(count * ratio))))


def _axes_for(ax: Axes | None, *grids: _Grid, inches: float = 7.2) -> Axes:
    """`ax`, or new Axes of suitable height, with the limits that show all images, and nothing else.

    inches: that the images are going to have across.
    """
    height, width = grids[-1].height, grids[-1].width
    across, down = grids[-1].right, grids[-1].bottom
    ax = axes_or_new(ax, 7.4, min(max(inches * (down + 0.4 * height) / across, 1.6), 9.0) + 0.3)
    names = min(0.17 * down, 0.5 * height)  # room for a line of text
    ax.set(xlim=(-0.05 * width, across + 0.05 * width), ylim=(down + 0.05 * height, -names))
    ax.set_aspect("equal")
    ax.set_autoscale_on(False)
    ax.set_axis_off()
    return ax


def _draw(ax: Axes, grid: _Grid, images: Any, cmap: str, least: float, most: float) -> AxesImage:
    """All images, (N, L), in their places and framed; the last one, for a colour bar."""
    height, width = grid.height, grid.width
    for n, image in enumerate(images):
        x, y = grid.corner(n)
        drawn = ax.imshow(
            image.reshape(height, width), extent=(x, x + width, y + height, y), cmap=cmap, vmin=least, vmax=most,
            interpolation="nearest",
        )  # fmt: skip
        frame = [x, x + width, x + width, x, x], [y, y, y + height, y + height, y]
        ax.plot(*frame, color=GREY, linewidth=0.5, solid_joinstyle="miter")
    return drawn
