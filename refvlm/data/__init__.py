"""Binary data: two small worlds whose distribution is known exactly, and one set of real images."""

from __future__ import annotations

from .digits import digits
from .worlds import World, bars, shifter

__all__ = ["World", "bars", "digits", "shifter"]
