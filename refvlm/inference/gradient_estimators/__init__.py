"""Estimators of gradients through bits, each with its sampler and its exact mean and covariance: one file for each.

    estimator = refvlm.gradient_estimators.DisArm(samples=1)
    estimator.sample(model, q, x, rng)      a draw for each row, (N, K), in the logits of q(z | x)
    estimator.mean(model, q, x)             its exact mean, (N, K)
    estimator.covariance(model, q, x)       its exact covariance, (N, K, K)

The moments are sums over all z, or all pairs, sets or integrals that a draw depends on; nothing is sampled for them.
"""

from .arm import Arm
from .disarm import DisArm
from .estimator import ESTIMATORS, Cost, Estimator
from .leave_one_out import LeaveOneOut
from .local_expectation import LocalExpectation
from .muprop import MuProp
from .nvil import Nvil
from .reinforce import Reinforce
from .reweighted import ReweightedWake
from .straight_through import StraightThrough
from .straight_through_gumbel import StraightThroughGumbel
from .vimco import Vimco

__all__ = [
    "ESTIMATORS",
    "Arm",
    "Cost",
    "DisArm",
    "Estimator",
    "LeaveOneOut",
    "LocalExpectation",
    "MuProp",
    "Nvil",
    "Reinforce",
    "ReweightedWake",
    "StraightThrough",
    "StraightThroughGumbel",
    "Vimco",
]
