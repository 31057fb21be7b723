"""Estimators of gradients through bits, each with its sampler and its exact mean and covariance: one file for each.

    estimator = refvlm.gradient_estimators.DisArm(samples=1)
    estimator.sample(model, q, x, rng)      a draw for each row, (N, K), in the logits of q(z | x)
    estimator.mean(model, q, x)             its exact mean, (N, K)
    estimator.covariance(model, q, x)       its exact covariance, (N, K, K)

`compare(model, q, x, [estimator, ...])` puts bias, variance and cost of several side by side.
`in_encoder(estimator, model, q, x)` has the moments in the encoder's parameters; `Wake` and `ReweightedModel` are the
updates of the model's, `Sleep` that of the encoder from dreams.

The moments are sums over all z, or all pairs, sets or integrals that a draw depends on; nothing is sampled for them.
"""

from .arm import Arm
from .compare import Comparison, Moments, compare
from .disarm import DisArm
from .estimator import Cost, Estimator
from .leave_one_out import LeaveOneOut
from .local_expectation import LocalExpectation
from .muprop import MuProp
from .nvil import Nvil
from .parameters import ModelUpdate, ParameterMoments, ReweightedModel, Wake, in_encoder
from .reinforce import Reinforce
from .reweighted import ReweightedWake
from .sleep import Sleep, SleepMoments
from .straight_through import StraightThrough
from .straight_through_gumbel import StraightThroughGumbel
from .vimco import Vimco

__all__ = [
    "ESTIMATORS",
    "Arm",
    "Comparison",
    "Cost",
    "DisArm",
    "Estimator",
    "LeaveOneOut",
    "LocalExpectation",
    "ModelUpdate",
    "Moments",
    "MuProp",
    "Nvil",
    "ParameterMoments",
    "Reinforce",
    "ReweightedModel",
    "ReweightedWake",
    "Sleep",
    "SleepMoments",
    "StraightThrough",
    "StraightThroughGumbel",
    "Vimco",
    "Wake",
    "compare",
    "in_encoder",
]

ESTIMATORS: dict[str, type[Estimator]] = {
    kind.name: kind
    for kind in (
        Reinforce, Nvil, LeaveOneOut, MuProp, LocalExpectation, Arm, DisArm, StraightThrough, StraightThroughGumbel,
        Vimco, ReweightedWake,
    )
}  # fmt: skip
"""By name, in the order in which they are listed for people."""
