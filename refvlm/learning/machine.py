"""A model and its posterior over one vector of parameters, which an optimiser moves under them.

The networks hold views of the vector, so that a step is one addition and nothing is rebuilt.
"""

from __future__ import annotations

from typing import TypeVar

from ..checks import describe
from ..model.bernoulli import Bernoulli
from ..model.latent_variable import BernoulliLVM
from ..model.mlp import MLP, Network
from ..model.parameters import Parameters, flatten, prefixed, under, unflatten
from ..model.recognition import AmortisedPosterior, FactorisedPosterior, PerDatumPosterior, Posterior, StagedPosterior
from ..types import Floats

Leaf = TypeVar("Leaf", Bernoulli, MLP, PerDatumPosterior)


class Machine:
    """The Helmholtz machine while it learns.

    vector: all parameters, those of the model first. generative, recognition: where the two parts lie in it.
    model, posterior: live; what they compute follows the vector. decoders: from x upwards; top: the logits of the
    highest prior; encoders: from x upwards, empty without a posterior or with one phi per datum.

    Raises TypeError where a network is no MLP.
    """

    def __init__(self, model: BernoulliLVM, posterior: Posterior | None = None) -> None:
        parameters = prefixed("model.", model.parameters())
        if posterior is not None:
            parameters |= prefixed("posterior.", posterior.parameters())
        self._shapes = {name: value.shape for name, value in parameters.items()}
        self.vector = flatten(parameters)
        self.parameters = self.views(self.vector)
        size = sum(value.size for value in model.parameters().values())
        self.generative, self.recognition = slice(0, size), slice(size, len(self.vector))
        self._origin = model, posterior
        self.model = _live_model(model, under("model.", self.parameters))
        self.posterior = None if posterior is None else _live_posterior(posterior, under("posterior.", self.parameters))
        self.decoders = [layer.decoder for layer in self.model.layers]
        self.top = self.model.top.logits
        stages = () if self.posterior is None else self.posterior.stages
        self.encoders = [stage.encoder for stage in stages if isinstance(stage, AmortisedPosterior)]

    def views(self, vector: Floats) -> Parameters:
        """The parts of a vector by the parameters' names."""
        return unflatten(vector, self._shapes)

    def snapshot(self, vector: Floats | None = None) -> tuple[BernoulliLVM, Posterior | None]:
        """Model and posterior at this vector (default: the present one), validated copies.

        Raises ValueError for parameters that no model can have.
        """
        model, posterior = self._origin
        parameters = self.parameters if vector is None else self.views(vector)
        return (
            model.with_parameters(under("model.", parameters)),
            None if posterior is None else posterior.with_parameters(under("posterior.", parameters)),
        )


def _over(leaf: Leaf, **views: object) -> Leaf:
    """The same kind of object over these very arrays, neither copied nor checked."""
    live = object.__new__(type(leaf))
    for name, view in views.items():
        object.__setattr__(live, name, view)
    return live


def _live_network(name: str, network: Network, views: Parameters) -> MLP:
    if not isinstance(network, MLP):
        raise TypeError(f"{name}: got {describe(network)}, wanted an MLP; only those learn here")
    layers = range(len(network.weights))
    return _over(
        network,
        weights=tuple(views[f"weights.{d}"] for d in layers),
        biases=tuple(views[f"biases.{d}"] for d in layers),
        activation=network.activation,
    )


def _live_model(model: BernoulliLVM, views: Parameters) -> BernoulliLVM:
    above = under("prior.", views)
    prior = _over(model.prior, **above) if isinstance(model.prior, Bernoulli) else _live_model(model.prior, above)
    return BernoulliLVM(prior, _live_network("decoder", model.decoder, under("decoder.", views)))


def _live_stage(stage: FactorisedPosterior, views: Parameters) -> FactorisedPosterior:
    if isinstance(stage, PerDatumPosterior):
        return _over(stage, **views)
    return AmortisedPosterior(_live_network("encoder", stage.encoder, under("encoder.", views)))


def _live_posterior(posterior: Posterior, views: Parameters) -> Posterior:
    if isinstance(posterior, StagedPosterior):
        return type(posterior)(
            [_live_stage(stage, under(f"{depth}.", views)) for depth, stage in enumerate(posterior.stages)]
        )
    return _live_stage(posterior, views)
