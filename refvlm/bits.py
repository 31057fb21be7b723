"""Codes and bits: bit k of the code c is z_k = (c >> k) & 1, everywhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .checks import check_count, check_fits
from .types import Bits, Floats

CODE_BITS = 62
"""Codes are int64 masks."""


def check_codes(latents: int) -> None:
    """Refuse to go through all 2**latents codes where a code cannot hold as many bits, and say what does not."""
    if latents > CODE_BITS:
        raise ValueError(
            f"latents: got {latents}, wanted at most {CODE_BITS} for a sum over all 2**latents codes, which takes "
            "hours from about 42 on (34 with hidden layers); any number: log_marginal_lower, certified from below, "
            "log_marginal_estimate, vlb_estimate and, without hidden layers, vlb, bracket, kl_bracket, "
            "decompose_bracket, sample_posterior, posterior_mean_bracket"
        )


def rows_of(codes: NDArray[np.int64], latents: int) -> Bits:
    """The bits of codes (N,) as rows (N, latents)."""
    return ((codes[:, None] >> np.arange(latents, dtype=np.int64)) & 1).astype(np.uint8)


def codes_of(rows: Bits) -> NDArray[np.int64]:
    """The codes (N,) of rows of bits (N, K), K <= CODE_BITS."""
    return rows.astype(np.int64) @ (np.int64(1) << np.arange(rows.shape[1], dtype=np.int64))


def fold(values: Floats, combine: np.ufunc = np.multiply) -> Floats:
    """For every code the product, or the sum, of what its bits stand for: values (K, 2), of 0 and of 1, to (2**K,).

    >>> fold(np.array([[0.25, 0.75], [0.5, 0.5]])).tolist()
    [0.125, 0.375, 0.125, 0.375]
    """
    folded: Floats = np.full(1, combine.identity, dtype=np.float64)
    for off, on in values:  # bit k is the k-th to double the table
        folded = np.concatenate([combine(folded, off), combine(folded, on)])
    return folded


def table(latents: int) -> Bits:
    """All of {0,1}^latents, (2**latents, latents), row c holding the bits of c.

    >>> table(2).tolist()
    [[0, 0], [1, 0], [0, 1], [1, 1]]
    """
    check_count("latents", latents, 1)
    check_codes(latents)
    check_fits(f"a table of all 2**{latents} codes", 9 * latents << latents, "enumerate a part of the codes")
    return rows_of(np.arange(1 << latents, dtype=np.int64), latents)
