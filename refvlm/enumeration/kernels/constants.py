"""The numbers that both kernels and error bounds rest on: sizes of vectors and pages, lengths of sums, products.

A kernel that adds in another order, or rounds once more, changes its number here, and the bounds of
`inference/certificate.py` and `inference/bound_certificate.py` move with it: they read these names, and no others.
"""

from __future__ import annotations

from typing import NamedTuple

LOW_BITS = 5
"""The low bits of a code lie along the lanes of a block."""
BLOCK = 1 << LOW_BITS
"""Lanes of a block: states of consecutive codes."""
OCTET = 8
"""Lanes of a shorter vector."""
MIDDLE_BITS = 6
ROWS = 1 << MIDDLE_BITS
"""Blocks in a page."""
PAGE = BLOCK * ROWS
"""Codes in a page, whose terms are added along one tree."""

RUN = 64
"""Inputs of a dense layer that are summed before their sum joins the others' (`network.py`)."""
FEW_TERMS = 16
"""Terms of a sum over observed bits that are added before they join the others (`marginal.py`, `observation.py`)."""


class Roundings(NamedTuple):
    """An error of (each L + more) 2**-53, relatively, for a product over L observed bits."""

    each: int
    more: int


STREAMED_PRODUCT = Roundings(3, 1)
"""The error of prod (1 + exp(-|a_i|)) in `marginal.py`."""
TABLED_PRODUCT = Roundings(6, 3)
"""The error of p(x, z) from tables in `groups.py`."""
LINEAR_TERM = Roundings(4, 20)
"""The error of a term in `linear.py`, with its logits and its quotient."""

BLOCK_ENTRIES, PAIR_ENTRIES = 160, 512
"""So many entries of all groups together may be of 32 states, 40 KiB, and of 16 states, 64 KiB (`groups.py`)."""

TABLE_FLOOR = 2.0**-900
"""By tables, terms below 2**-1022 are lost; a row whose sum falls below this is summed again in the log domain."""

ROW_BITS = 5
"""Bits that tell the rows of a chunk apart in `linear.py`."""
SEGMENT = 16
"""Factors of a product in `linear.py` between two scalings."""
SPLITS = ((10, 4), (9, 4), (8, 4), (10, 2), (9, 2), (8, 2), (7, 4), (7, 2), (10, 1), (7, 1), (5, 1))
"""(low bits, rows to a division) that `linear.py` may choose, the fastest first."""

MARGIN = 42.0
"""How far the period of the nodes in `characteristic.py` lies above the largest |logit|."""
CUTOFF = 12.5
"""The nodes in `characteristic.py` end where w exceeds this."""
