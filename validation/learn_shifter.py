"""The shifter of Dayan, Hinton, Neal & Zemel (1995): `python validation/learn_shifter.py`.

A row of pixels above its copy, shifted left or right: to know the direction is to know one bit that no pixel shows
alone. Three ways to learn it from the world's own distribution. Everything is exact and in bits: the generative misfit
KL(world || model), its floor 0, and the recognition gap E[KL(q || p(z | x))] over the world; with the world's entropy
they add up to the mean negative bound. Beside them how much of the direction the posterior means tell: the share of
images, weighted by the world, on whose direction a linear rule of E[z | x] is right (images that look the same either
way are left out).
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import common
import numpy as np

import refvlm

WORLD = refvlm.shifter(width=6)
METHODS: dict[str, dict[str, Any]] = {
    "wake-sleep": {"method": "wake-sleep", "batch_size": 100, "learning_rate": 0.003},
    "reweighted wake-sleep": {"method": "reweighted-wake-sleep", "batch_size": 100, "learning_rate": 0.003},
    "exact VLB": {"method": "vlb", "learning_rate": 0.01},
    "exact ML": {"method": "maximum-likelihood", "learning_rate": 0.01},
}
