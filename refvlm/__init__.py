"""refvlm: the exact Bernoulli latent variable model and Helmholtz machine, to check others against.

Exact log p(x), posterior, variational lower bound (VLB), KL gap and gradients by enumeration of all 2**K latents.
Quantities are in nats, per row of x; parameters are logits; bit k of a code c is z_k = (c >> k) & 1.
"""

from . import starting as starting  # first: while the rest is loaded, the command must answer for signals

# isort: split
from . import bits, plot
from .checks import FileFormatError
from .data import bars, digits, shifter
from .inference import gradient_estimators
from .inference.bounds import Decomposition, decompose, grad_vlb, kl, vlb, vlb_terms
from .inference.brackets import Bracket, DecompositionBracket, bracket, decompose_bracket, kl_bracket
from .inference.exact import (
    grad_log_marginal,
    log_marginal,
    log_marginal_and_grad,
    posterior,
    posterior_mean,
)
from .inference.joint import log_joint, log_likelihood, log_prior, log_q
from .inference.many_samples import iwae
from .inference.one_sided import log_marginal_lower, mean_log_marginal_upper
from .inference.prediction import predict_missing, sample_missing
from .inference.rejection import MeanBracket, posterior_mean_bracket, sample_posterior
from .inference.sampled import Estimate, log_marginal_estimate, vlb_estimate
from .inference.so_far import SumSoFar, log_marginal_so_far
from .inference.terms import VLBTerms
from .inference.weight_bounds import LogWeightMoments, cubo, eubo, log_weight_moments, renyi, tvo
from .inference.weighted_gradients import grad_iwae, grad_rws
from .learning.estimator import BernoulliLVMEstimator
from .learning.fit import fit
from .learning.fitted import Fit
from .model.bernoulli import Bernoulli
from .model.files import load, save
from .model.foreign import from_flax, from_keras, from_safetensors, from_torch
from .model.latent_variable import BernoulliLVM
from .model.mlp import MLP
from .model.recognition import AmortisedPosterior, ChainPosterior, LayerwisePosterior, PerDatumPosterior
from .progress import ProgressBar
from .version import __version__ as __version__

__all__ = [
    "MLP",
    "AmortisedPosterior",
    "Bernoulli",
    "BernoulliLVM",
    "BernoulliLVMEstimator",
    "Bracket",
    "ChainPosterior",
    "Decomposition",
    "DecompositionBracket",
    "Estimate",
    "FileFormatError",
    "Fit",
    "LayerwisePosterior",
    "LogWeightMoments",
    "MeanBracket",
    "PerDatumPosterior",
    "ProgressBar",
    "SumSoFar",
    "VLBTerms",
    "bars",
    "bits",
    "bracket",
    "cubo",
    "decompose",
    "decompose_bracket",
    "digits",
    "eubo",
    "fit",
    "from_flax",
    "from_keras",
    "from_safetensors",
    "from_torch",
    "grad_iwae",
    "grad_log_marginal",
    "grad_rws",
    "grad_vlb",
    "gradient_estimators",
    "iwae",
    "kl",
    "kl_bracket",
    "load",
    "log_joint",
    "log_likelihood",
    "log_marginal",
    "log_marginal_and_grad",
    "log_marginal_estimate",
    "log_marginal_lower",
    "log_marginal_so_far",
    "log_prior",
    "log_q",
    "log_weight_moments",
    "mean_log_marginal_upper",
    "plot",
    "posterior",
    "posterior_mean",
    "posterior_mean_bracket",
    "predict_missing",
    "renyi",
    "sample_missing",
    "sample_posterior",
    "save",
    "shifter",
    "tvo",
    "vlb",
    "vlb_estimate",
    "vlb_terms",
]
