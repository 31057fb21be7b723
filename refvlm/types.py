"""Arrays by what they hold."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
"""Of any float type."""
Bits = NDArray[np.uint8]
"""Zeros and ones."""
Floats = NDArray[np.float64]
