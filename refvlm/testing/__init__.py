"""Asserts for other people's tests: is my implementation of a discrete-latent model right?

    assert_log_marginal_close, assert_vlb_close, assert_grad_close     numbers, within what rounding explains
    assert_unbiased_exact, assert_unbiased, plan_samples               estimators, at every z or by their draws
    assert_samples_match                                               samplers
    refvlm.testing.strategies                                          models and data for hypothesis

Arguments are in the order of numpy.testing: what you have, then what it should be. With pytest there are also the
published cases as a fixture, `refvlm_case`.
"""

from .betting import Verdict
from .closeness import assert_grad_close, assert_log_marginal_close, assert_vlb_close
from .errors import InconclusiveError
from .samples import assert_samples_match
from .unbiased import assert_unbiased, assert_unbiased_exact, plan_samples

__all__ = [
    "InconclusiveError",
    "Verdict",
    "assert_grad_close",
    "assert_log_marginal_close",
    "assert_samples_match",
    "assert_unbiased",
    "assert_unbiased_exact",
    "assert_vlb_close",
    "plan_samples",
]
