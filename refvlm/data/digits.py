"""Handwritten digits, 8 x 8 pixels, black and white.

Source: the test set of "Optical Recognition of Handwritten Digits", E. Alpaydin and C. Kaynak, UCI Machine Learning
Repository, 1998, doi:10.24432/C50P49, licensed under CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/).
Changed here: pixels, 0 to 16 in the original, are 1 where they were at least 8 and 0 elsewhere.

The file digits.npz holds `images` (1797, 8) uint8, one byte per row of pixels, the leftmost pixel in the least
significant bit (`bitorder="little"`: pixel k is bit k), and `labels` (1797,) uint8.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Literal, overload

import numpy as np
from numpy.typing import NDArray

from ..types import Bits


@overload
def digits(*, labels: Literal[False] = False) -> Bits: ...
@overload
def digits(*, labels: Literal[True]) -> tuple[Bits, NDArray[np.int64]]: ...
def digits(*, labels: bool = False) -> Bits | tuple[Bits, NDArray[np.int64]]:
    """The 1797 binarised digits x, (1797, 64) uint8, row-major 8 x 8; with `labels`, also y (1797,) int64, 0 to 9.

    Pixels are 1 where the original, 0 to 16, was at least 8. The arrays are the caller's own copies, in the order
    of the original file. E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, 1998, doi:10.24432/C50P49,
    CC BY 4.0.

    >>> x, y = digits(labels=True)
    >>> x.shape, y[:5].tolist()
    ((1797, 64), [0, 1, 2, 3, 4])
    """
    with files(__package__).joinpath("digits.npz").open("rb") as file, np.load(file, allow_pickle=False) as packed:
        x: Bits = np.unpackbits(packed["images"], axis=1, bitorder="little")
        return (x, packed["labels"].astype(np.int64)) if labels else x
