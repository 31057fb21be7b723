"""What this machine's arithmetic can do at most: loops of one operation each, for `refvlm bench`.

Every loop carries its values from one round to the next and returns the sum of what is left. Without fastmath LLVM may
not reorder floating-point operations, so a round can be neither folded into another nor left out. Counts are of
operations on single floats:

    fma_chains        6 or 12 octets a = a * x + y: 48 or 96 per round. Hardware with 16 vector registers of 4 has room
                      for the 6, hardware with 32 of 8 needs the 12 to hide a latency of 4; the faster one counts
    division_chains   6 octets a = y / a: 48 per round
    exponentials      `elementary.exp`, as it is compiled into the kernels, of every entry of an array, and an addition
    load_multiplies   8 octets, multiplied by the entries of a table one after the other: per round, the entries
"""

from __future__ import annotations

from ...types import Floats
from .compiling import inline, kernel
from .constants import BLOCK, OCTET
from .elementary import Number, exp
from .lanes import fma, load_block, load_octet, splat_block, splat_octet, total


@inline
def six(start: Floats) -> tuple[Number, Number, Number, Number, Number, Number]:
    """Octets that are all different, from 48 floats."""
    return (
        load_octet(start, 0), load_octet(start, OCTET), load_octet(start, 2 * OCTET), load_octet(start, 3 * OCTET),
        load_octet(start, 4 * OCTET), load_octet(start, 5 * OCTET),
    )  # fmt: skip


@kernel
def fma_chains(start: Floats, x: float, y: float, wide: bool, rounds: int) -> float:
    """The sum of what `rounds` of a = a * x + y make of start (48,), or, `wide`, of start and -start."""
    a, b, c, d, e, f = six(start)
    s, t = splat_octet(x), splat_octet(y)
    if not wide:
        for _ in range(rounds):
            a, b, c = fma(a, s, t), fma(b, s, t), fma(c, s, t)
            d, e, f = fma(d, s, t), fma(e, s, t), fma(f, s, t)
        return total(((a + b) + (c + d)) + (e + f))
    g, h, i, j, k, m = -a, -b, -c, -d, -e, -f
    for _ in range(rounds):
        a, b, c, d = fma(a, s, t), fma(b, s, t), fma(c, s, t), fma(d, s, t)
        e, f, g, h = fma(e, s, t), fma(f, s, t), fma(g, s, t), fma(h, s, t)
        i, j, k, m = fma(i, s, t), fma(j, s, t), fma(k, s, t), fma(m, s, t)
    return total((((a + b) + (c + d)) + ((e + f) + (g + h))) + ((i + j) + (k + m)))


@kernel
def division_chains(start: Floats, y: float, rounds: int) -> float:
    """The sum of what `rounds` of a = y / a make of start (48,)."""
    a, b, c, d, e, f = six(start)
    s = splat_octet(y)
    for _ in range(rounds):
        a, b, c, d, e, f = s / a, s / b, s / c, s / d, s / e, s / f
    return total(((a + b) + (c + d)) + (e + f))


@kernel
def exponentials(values: Floats, rounds: int) -> float:
    """The sum of exp(v), v <= 0, over the values (a multiple of 32), `rounds` times."""
    sums = splat_block(0.0)
    for _ in range(rounds):
        for i in range(0, len(values), BLOCK):
            sums = sums + exp(load_block(values, i))
    return total(sums)


@kernel
def load_multiplies(table: Floats, rounds: int) -> float:
    """The sum of 64 products, each of every 64th entry of the table (a multiple of 64), `rounds` times over."""
    a, b, c, d = splat_octet(1.0), splat_octet(1.0), splat_octet(1.0), splat_octet(1.0)
    e, f, g, h = splat_octet(1.0), splat_octet(1.0), splat_octet(1.0), splat_octet(1.0)
    for _ in range(rounds):
        for at in range(0, len(table), 8 * OCTET):
            a, b = a * load_octet(table, at), b * load_octet(table, at + OCTET)
            c, d = c * load_octet(table, at + 2 * OCTET), d * load_octet(table, at + 3 * OCTET)
            e, f = e * load_octet(table, at + 4 * OCTET), f * load_octet(table, at + 5 * OCTET)
            g, h = g * load_octet(table, at + 6 * OCTET), h * load_octet(table, at + 7 * OCTET)
    return total(((a + b) + (c + d)) + ((e + f) + (g + h)))
