"""One hypothesis profile for every run: the same examples each time, no deadline on a noisy machine."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "refvlm",
    derandomize=True,
    deadline=None,
    max_examples=60,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("refvlm")
