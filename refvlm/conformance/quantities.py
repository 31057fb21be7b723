"""The quantities that the protocol knows, in the order in which an implementation is best built.

`protocol.md` states their inputs and the shapes of their results; a test holds the two together.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["QUANTITIES", "Quantity"]


class Quantity(NamedTuple):
    """inputs: by name, a star stands for every latent layer (z, z2, ...). posterior: whether q is needed.

    result: what comes back, as the protocol's document says it. after: the quantities it is made of.
    """

    inputs: tuple[str, ...]
    posterior: bool
    result: str
    after: tuple[str, ...]


QUANTITIES = {
    "log_prior": Quantity(("z",), False, "(N,)", ()),
    "log_likelihood": Quantity(("x", "z"), False, "(N,)", ()),
    "log_joint": Quantity(("x", "z"), False, "(N,)", ("log_prior", "log_likelihood")),
    "log_marginal": Quantity(("x",), False, "(N,)", ("log_joint",)),
    "posterior": Quantity(("x",), False, "(N, 2^K)", ("log_joint", "log_marginal")),
    "posterior_mean": Quantity(("x",), False, "(N, K)", ("posterior",)),
    "vlb_terms": Quantity(("x",), True, "prior (N,), reconstruction (N,), entropy (N,)", ("log_joint",)),
    "vlb": Quantity(("x",), True, "(N,)", ("vlb_terms",)),
    "kl": Quantity(("x",), True, "(N,)", ("vlb", "log_marginal")),
    "grad_log_marginal": Quantity(("x",), False, "every parameter of the model", ("posterior",)),
    "grad_vlb": Quantity(("x",), True, "every parameter, after model. and posterior.", ("vlb",)),
    "sample": Quantity(("uniforms_*", "uniforms_x"), False, "x (S, L), z (S, K), z2, ...", ()),
    "wake_step": Quantity(
        ("x", "wake_uniforms_*", "learning_rate"), True, "every parameter of the model", ("log_joint",)
    ),
    "sleep_step": Quantity(
        ("uniforms_*", "uniforms_x", "learning_rate"), True, "every parameter of the posterior", ("sample",)
    ),
}
