"""The least concave majorant of log[1 + sigmoid(a) (e^g - 1)] on an interval of a, as an affine bound at one point.

That is f(a) = softplus(a + g) - softplus(a), what a bit of mean sigmoid(a) contributes to a sum over it when it is
tilted by e^g. With h = |g| / 2 and t = a + g / 2, or its negative where g < 0,

    f = g / 2 + o(t),   o(t) = softplus(t + h) - softplus(t - h) - h,

odd, rising from -h to h, convex for t < 0 and concave beyond. So on [t0, t1] the majorant is o itself from the point p
on where the line from (t0, o(t0)) touches it, and that line before; or one chord, where there is no such point. p is
only sought until the line is good: what is returned bounds f whatever p is. For any slope c and any r >= max(t0, 0),

    o(t) - c t <= max of o(t0) - c t0   and   o(r) - c r + (o'(r) - c) (t - r) at either end of the concave part,

because a convex function is nowhere above its ends and a concave one nowhere above its tangent.
"""

from __future__ import annotations

from .compiling import inline
from .elementary import Number, exp, larger, log1p, sigmoids
from .lanes import absolute, where_less

SEARCH = 16
"""Steps towards the point p."""


@inline
def smaller(a: Number, b: Number) -> Number:
    """min(a, b)."""
    return where_less(a, b, a, b)


@inline
def odd_part(t: Number, h: Number) -> tuple[Number, Number, Number]:
    """o(t), o'(t) and -o''(t) where t >= 0, o''(t) elsewhere; nothing cancels."""
    far, near = exp(-(absolute(t) + h)), exp(-absolute(absolute(t) - h))
    far_part, near_part = 1.0 / (1.0 + far), 1.0 / (1.0 + near)
    height = smaller(absolute(t), h) + (log1p(far) - log1p(near))
    slope = where_less(h, absolute(t), near * near_part, near_part) - far * far_part
    bend = near * near_part * near_part - far * far_part * far_part
    return where_less(t, 0.0, -height, height), slope, bend


@inline
def touching(first: Number, last: Number, h: Number) -> Number:
    """p from above, or `last` where the majorant is one chord: a guarded Newton iteration."""
    start = odd_part(first, h)[0]
    low = larger(first, 0.0)
    high = larger(last, low)
    p = larger(low, smaller(h, high))
    for _ in range(SEARCH):
        height, slope, bend = odd_part(p, h)
        reach = p - first
        missing = height - start - slope * reach
        low, high = where_less(missing, 0.0, p, low), where_less(missing, 0.0, high, p)
        new = p - missing / larger(bend * reach, 1e-300)
        inside = where_less(low, new, where_less(new, high, 1.0, 0.0), 0.0)
        p = where_less(inside, 0.5, 0.5 * (low + high), new)
    return where_less(first, 0.0, high, first)


@inline
def line(t: Number, p: Number, first: Number, last: Number, h: Number) -> tuple[Number, Number, Number, Number]:
    """A line above o on [first, last], whatever p >= max(first, 0) is: its slope, its height at 0, a point r, and c.

    c is 1 where it is the tangent at t, which is r; else 0, and r is p or, of one chord, `last`.
    """
    curved = where_less(t, p, 0.0, where_less(t, 0.0, 0.0, 1.0))
    right = where_less(curved, 0.5, smaller(p, last), t)
    start = odd_part(first, h)[0]
    end, steepest, _ = odd_part(right, h)
    chord = (end - start) / larger(right - first, 1e-300)
    whole = where_less(curved, 0.5, where_less(p, last, 0.0, where_less(first, last, 1.0, 0.0)), 0.0)
    slope = where_less(whole, 0.5, steepest, chord)
    concave = smaller(larger(first, 0.0), last)
    excess = steepest - slope
    beyond = larger(excess * (last - right), excess * (concave - right))
    return slope, larger(start - slope * first, end - slope * right + beyond), right, curved


@inline
def envelope(a: Number, g: Number, lowest: Number, highest: Number) -> tuple[Number, Number, Number, Number, Number]:
    """The affine bound f <= slope a + offset on [lowest, highest] that is least at a.

    Returns slope, offset, the majorant's curvature -f'' there, the mean of the tilted bit under the bound: its
    derivative by g; and how far the bound lies above f.
    """
    h = 0.5 * absolute(g)
    sign = where_less(g, 0.0, -1.0, 1.0)
    one_end, other_end = sign * (lowest + 0.5 * g), sign * (highest + 0.5 * g)
    first, last = smaller(one_end, other_end), larger(one_end, other_end)
    t = larger(first, smaller(sign * (a + 0.5 * g), last))
    slope, offset, right, curved = line(t, touching(first, last, h), first, last, h)
    share = where_less(curved, 0.5, (right - t) / larger(right - first, 1e-300), 0.0)
    mean = (1.0 - share) * sigmoids(sign * right + 0.5 * g)[0] + share * sigmoids(sign * first + 0.5 * g)[0]
    there, _, bend = odd_part(t, h)
    bend = where_less(curved, 0.5, 0.0, larger(bend, 0.0))
    above = larger(offset + slope * t - there, 0.0)
    return slope * sign, 0.5 * g + (offset + slope * sign * (0.5 * g)), bend, mean, above
