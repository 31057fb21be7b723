"""Asserts for other people's tests: is my implementation of a discrete-latent model right? See README.md here."""

from .betting import InconclusiveError, Verdict
from .closeness import assert_grad_close, assert_log_marginal_close, assert_vlb_close
from .moments import assert_variance_close
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
    "assert_variance_close",
    "assert_vlb_close",
    "plan_samples",
]
