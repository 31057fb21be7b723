"""One hypothesis profile for every run: the same examples each time, no deadline on a noisy machine."""

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from refvlm.enumeration import kernels

settings.register_profile(
    "refvlm",
    derandomize=True,
    deadline=None,
    max_examples=60,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("refvlm")


@pytest.fixture(scope="session", autouse=True)
def _some_kernel_is_compiled():
    """So that no command under test announces the very first compilation."""
    kernels.marginal.finish(np.zeros(1), np.ones(1))
