"""The cases of the conformance vectors: models, inputs, why each exists. Values come from `exact_quantities.py`.

A case is immutable once published: its id stands for its numbers for ever, and a change is a new id. Parameters are
multiples of 2**-12 unless the case is about something else, so that float32 holds them exactly, and come from
`random.Random(id).random`, which Python keeps the same. No dimension of a case equals another: rows N, latents K, codes
2**K, observed bits L, hidden widths, draws S.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

from exact_quantities import LIST, Problem, TooClose, layer_name, quantities_where

Case = dict[str, Any]
Lists = Any

INF = math.inf
EVERY = quantities_where(lambda quantity: True)
"""What the cases of the first edition ask for; a later quantity comes with cases of its own."""

SUMMED = quantities_where(lambda quantity: quantity["kind"] not in ("draws", "step"))
"""What a single q on a deep model has: with the layers above summed exactly there is no wake and no sleep."""

CATCHES = {
    "linear": "missing-prior missing-softplus mean-over-pixels exchanged-bits sigmoid-twice missing-biases bits "
    "log-mean-exp maximum-for-sum reversed-codes missing-entropy entropy-sign reversed-kl kl-to-prior mean-of-q "
    "score-sign detached-z",
    "prior-strong": "missing-prior uniform-prior prior-probabilities-as-logits prior-logits-as-probabilities "
    "prior-twice prior-mass-only gradient-in-probabilities priors-expectation prior-held-fixed",
    "tanh-one": "column-major-weights activation-on-output missing-slope slope-at-value biases-twice negated-gradient",
    "relu-one": "always-tanh missing-slope",
    "sigmoid-one": "always-tanh slope-at-value",
    "mixed-activations": "decoders-activation",
    "tanh-two": "column-major-weights missing-slope slope-at-value",
    "sigmoid-two": "always-tanh missing-slope",
    "relu-two": "always-tanh missing-slope",
    "one-latent": "log-mean-exp maximum-for-sum",
    "one-observed": "normalised-over-rows",
    "one-row": "unnormalised-posterior most-probable-code",
    "no-rows": "",
    "equal-rows": "mean-over-rows summed-over-rows one-latent-for-all-rows rows-signal-shared",
    "odd-widths": "reversed-latents column-major-weights",
    "more-codes": "reversed-codes reversed-latents reversed-bits-of-q",
    "wide": "mean-over-pixels summed-step divided-twice",
    "full-mantissas": "single-precision epsilon-in-logarithm",
    "flat-decoder": "kl-added",
    "tight-bound": "phi-as-logits missing-entropy",
    "softplus-tails": "softplus-cut-off rounded-probability clipped-probability",
    "near-deterministic": "rounded-probability clipped-probability",
    "extreme-logits": "clamped-logarithm rounded-probability zero-times-log-zero unshifted-sum",
    "underflow": "unshifted-sum",
    "saturated-hidden": "softplus-cut-off",
    "relu-at-zero": "slope-at-zero",
    "impossible-codes": "zero-times-infinity zero-times-log-zero clamped-logarithm",
    "ties": "inclusive-comparison mirrored-uniforms rounded-bits",
    "deep-collapsed": "upper-layers-ignored",
    "deep-collapsed-hidden": "upper-layers-ignored",
    "helmholtz": "upper-layers-ignored means-for-draws downhill-step summed-step",
    "helmholtz-hidden": "upper-layers-ignored means-for-draws",
    "helmholtz-three": "upper-layers-ignored entropy-gradient-missing",
    "weighted-linear": "mean-of-log-weights sum-of-weights baseline-with-itself vimco-without-weights twins-exchanged",
    "weighted-tanh": "undetached-weights vimco-over-the-batch disarm-without-factor through-as-identity",
    "weighted-relu": "through-as-identity baseline-with-itself",
    "one-weight": "",
    "far-apart": "undetached-weights sum-of-weights",
    "weighted-collapsed": "upper-layers-ignored twins-exchanged",
}
"""Mistakes, by the names that reports give them, which a case is there to catch; a test holds it to that."""


class Source:
    """Numbers for one case."""

    def __init__(self, identity: str) -> None:
        self.random = random.Random(identity).random

    def number(self, scale: float) -> float:
        """Uniform on [-scale, scale], a multiple of 2**-12."""
        return round((2 * self.random() - 1) * scale * 4096) / 4096

    def vector(self, length: int, scale: float) -> list[float]:
        return [self.number(scale) for _ in range(length)]

    def matrix(self, rows: int, columns: int, scale: float) -> list[list[float]]:
        return [self.vector(columns, scale) for _ in range(rows)]

    def network(self, prefix: str, sizes: list[int], scale: float = 1.0, biases: float = 0.75) -> dict[str, Lists]:
        """Weights about as large as keeps a layer's inputs of order 1, biases none of which is 0."""
        named: dict[str, Lists] = {}
        for depth, (fan_in, fan_out) in enumerate(pairwise(sizes)):
            named[f"{prefix}weights.{depth}"] = self.matrix(fan_in, fan_out, 2 * scale / math.sqrt(fan_in))
        for depth, fan_out in enumerate(sizes[1:]):
            named[f"{prefix}biases.{depth}"] = self.vector(fan_out, biases)
        return named

    def bits(self, rows: int, columns: int) -> list[list[float]]:
        """Rows that differ as far as there are enough of them."""
        matrix: list[list[float]] = []
        while len(matrix) < rows:
            row = [float(self.random() < 0.5) for _ in range(columns)]
            if row not in matrix or len(matrix) >= 1 << columns:
                matrix.append(row)
        return matrix

    def uniforms(self, rows: int, columns: int) -> list[list[float]]:
        """Multiples of 2**-16 in (0, 1)."""
        return [[(int(self.random() * 65535) + 1) / 65536 for _ in range(columns)] for _ in range(rows)]


def shallow(
    identity: str,
    why: str,
    *,
    sizes: tuple[int, ...],
    rows: int,
    draws: int,
    encoder: tuple[int, ...] = (),
    activation: str = "tanh",
    recognition: str = "tanh",
    quantities: tuple[str, ...] = EVERY,
    scale: float = 1.0,
    change: Callable[[Case, Source], None] | None = None,
) -> Case:
    """K, hidden widths and L in `sizes`; the encoder's hidden widths in `encoder`."""
    source = Source(identity)
    latents, observed = sizes[0], sizes[-1]
    case: Case = {
        "id": identity,
        "why": why,
        "model": {
            "activation": activation,
            "parameters": {"prior.logits": source.vector(latents, 1.5)}
            | source.network("decoder.", list(sizes), scale),
        },
        "posterior": {
            "activation": recognition,
            "parameters": source.network("encoder.", [observed, *encoder, latents], scale),
        },
        "inputs": {"x": source.bits(rows, observed), "z": source.bits(rows, latents), "learning_rate": 0.375},
        "quantities": list(quantities),
        "catches": CATCHES.get(identity, "").split(),
    }
    if change is not None:
        change(case, source)
    return with_uniforms(case, source, draws)


def with_uniforms(case: Case, source: Source, draws: int) -> Case:
    """Uniforms that are clear of every probability they are compared with; a case that brings its own keeps them."""
    asked = {pattern for name in case["quantities"] for pattern in LIST["quantities"][name]["inputs"]}
    inputs = dict(case["inputs"])
    layers = [(layer_name(depth), latents) for depth, latents in enumerate(latents_of(case))]
    while any("uniforms" in pattern for pattern in asked) and "uniforms_x" not in inputs:
        rows, observed = len(inputs["x"]), len(inputs["x"][0])
        case["inputs"] = inputs | {
            **{f"wake_uniforms_{name}": source.uniforms(rows, latents) for name, latents in layers},
            **{f"uniforms_{name}": source.uniforms(draws, latents) for name, latents in layers},
            "uniforms_x": source.uniforms(draws, observed),
        }
        problem = Problem(case)
        try:
            problem.dreams()
            problem.recognised()
            break
        except TooClose:
            continue
    if "learning_rate" not in asked:
        case["inputs"].pop("learning_rate", None)
    return case


WEIGHTED = tuple(name for name, quantity in LIST["quantities"].items() if quantity["edition"] == 2)
"""What the cases about bounds of several draws, and draws of gradients, ask for."""


def with_draws(case: Case, samples: float, draws: int, quantities: tuple[str, ...] = WEIGHTED) -> Case:
    """The case asking for these, with `samples` weights in a bound, and uniforms of so many draws for each row."""
    source, inputs = Source(f"{case['id']} draws"), {"x": case["inputs"]["x"], "samples": samples}
    case = case | {"quantities": list(quantities), "inputs": inputs}
    latents = latents_of(case)[0]
    while True:
        inputs["draw_uniforms"] = [source.uniforms(draws, latents) for _ in inputs["x"]]
        problem = Problem(case)
        try:
            list(problem.draws())
            list(problem.draws(mirrored=True))
        except TooClose:
            continue
        return case


def latents_of(case: Case) -> list[int]:
    """K of every layer, from x upwards."""
    latents, prefix = [], ""
    while f"{prefix}decoder.weights.0" in case["model"]["parameters"]:
        latents.append(len(case["model"]["parameters"][f"{prefix}decoder.weights.0"]))
        prefix += "prior."
    return latents


def deep(
    identity: str,
    why: str,
    *,
    widths: tuple[int, ...],
    hidden: tuple[int | None, ...],
    encoder: tuple[int | None, ...],
    rows: int,
    draws: int,
    chain: bool,
    activation: str = "tanh",
) -> Case:
    """widths: L, K, K2, ... from x upwards; hidden and encoder: a width, or None, for each decoder and encoder."""
    source = Source(identity)
    parameters: dict[str, Lists] = {}
    recognition: dict[str, Lists] = {}
    for depth, (below, above) in enumerate(pairwise(widths)):
        down, up = ([width] if width else [] for width in (hidden[depth], encoder[depth]))
        parameters |= source.network("prior." * depth + "decoder.", [above, *down, below])
        if chain or depth == 0:
            recognition |= source.network(f"{depth}.encoder." if chain else "encoder.", [below, *up, above])
    top = "prior." * (len(widths) - 1) + "logits"
    case: Case = {
        "id": identity,
        "why": why,
        "model": {"activation": activation, "parameters": {top: source.vector(widths[-1], 1.5)} | parameters},
        "posterior": {"activation": "tanh", "parameters": recognition},
        "inputs": {
            "x": source.bits(rows, widths[0]),
            "z": source.bits(rows, widths[1]),
            "learning_rate": 0.375,
        },
        "quantities": list(EVERY if chain else SUMMED),
        "catches": CATCHES.get(identity, "").split(),
    }
    return with_uniforms(case, source, draws)


# What some cases change ------------------------------------------------------------------------------------------


def model_of(case: Case) -> dict[str, Lists]:
    parameters: dict[str, Lists] = case["model"]["parameters"]
    return parameters


def q_of(case: Case) -> dict[str, Lists]:
    parameters: dict[str, Lists] = case["posterior"]["parameters"]
    return parameters


def scaled(value: Lists, factor: float) -> Lists:
    return [scaled(part, factor) for part in value] if isinstance(value, list) else value * factor


def saturated(case: Case, source: Source) -> None:
    """Logits of about +-20 to +-40 wherever z goes."""
    for index, name in enumerate(("decoder.biases.0", "encoder.biases.0")):
        parameters = (model_of, q_of)[index](case)
        parameters[name] = [
            math.copysign(21 + 3.5 * i, (-1) ** i) + source.number(0.5) for i in range(len(parameters[name]))
        ]


def extreme(case: Case, source: Source) -> None:
    """Logits beyond what exp can take in float64, in prior, decoder and encoder."""
    model_of(case)["prior.logits"] = [-760.0, 1.25, 752.0]
    model_of(case)["decoder.biases.0"] = [-810.0, 900.0, 0.5, -1.5, 720.0]
    q_of(case)["encoder.biases.0"] = [-745.0, 0.25, 770.0]


def underflowing(case: Case, source: Source) -> None:
    """Every p(x, z) is below the smallest double."""
    model_of(case)["decoder.biases.0"] = scaled(model_of(case)["decoder.biases.0"], 64.0)


def impossible(case: Case, source: Source) -> None:
    """Prior logits -inf and +inf: one bit never, one bit always."""
    model_of(case)["prior.logits"] = [-INF, 0.75, INF, -1.25]
    case["inputs"]["z"] = [[0.0, 1.0, 1.0, 0.0], [1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0]]


def tied(case: Case, source: Source) -> None:
    """Uniforms exactly at their probabilities: u = p = 1/2, u = p = 0, and u just below p = 1."""
    below_one = 1 - 2.0**-24
    model_of(case)["prior.logits"] = [0.0, -INF, INF]
    weights = model_of(case)["decoder.weights.0"]
    weights[0], weights[2] = [0.0] * 5, [0.0] * 5  # z_0 and z_2 do not reach x, z_1 never fires
    model_of(case)["decoder.biases.0"] = [0.0, 1.5, -2.0, 0.0, 0.75]
    case["inputs"]["uniforms_z"] = [
        [0.5, 0.0, below_one], [0.25, 0.5, 0.5], [0.5, 0.0, 0.0], [0.75, 0.0, below_one], [0.0, below_one, 0.5],
        [0.5, 0.25, 0.25],
    ]  # fmt: skip
    case["inputs"]["uniforms_x"] = [
        [0.5, 0.25, 0.0625, 0.5, 0.5], [0.25, 0.875, 0.25, 0.5, 0.75], [0.5, 0.5, 0.5, 0.25, 0.25],
        [0.75, 0.75, 0.0625, 0.5, 0.625], [0.5, 0.9375, 0.9375, 0.75, 0.0], [0.0, 0.0, 0.0, 0.5, 0.5],
    ]  # fmt: skip


def at_zero(case: Case, source: Source) -> None:
    """Small integers, so that pre-activations are exactly 0 for some codes and inputs."""
    for parameters in (model_of(case), q_of(case)):
        for name, value in parameters.items():
            if name.split(".", 1)[1] in ("weights.0", "biases.0"):
                parameters[name] = [
                    [float(int(source.random() * 3) - 1) for _ in part] if isinstance(part, list) else 0.0
                    for part in value
                ]


def tight(case: Case, source: Source) -> None:
    """K = 1 without hidden units: log p(z=1|x) / p(z=0|x) is linear in x, so a linear encoder is the posterior."""
    weights = [0.5, -1.25, 2.0, 0.75]
    biases = [0.25, -0.5, 1.0, -0.125]
    model_of(case)["prior.logits"] = [0.625]
    model_of(case)["decoder.weights.0"], model_of(case)["decoder.biases.0"] = [weights], biases
    excess = sum(math.log1p(math.exp(b + w)) - math.log1p(math.exp(b)) for w, b in zip(weights, biases, strict=True))
    q_of(case)["encoder.weights.0"], q_of(case)["encoder.biases.0"] = [[w] for w in weights], [0.625 - excess]


def flat(case: Case, source: Source) -> None:
    """A decoder that does not look at z: VLB = log p(x) - KL(q || prior)."""
    model_of(case)["decoder.weights.0"] = scaled(model_of(case)["decoder.weights.0"], 0.0)


def repeated(case: Case, source: Source) -> None:
    """Equal rows, all zeros, all ones."""
    row = case["inputs"]["x"][0]
    length = len(row)
    case["inputs"]["x"] = [row, [0.0] * length, row, [1.0] * length, row, [0.0] * length]


def unrounded(case: Case, source: Source) -> None:
    """Parameters with all 53 bits: a reader that goes through float32, or through the approximations, is off."""

    def full(value: Lists) -> Lists:
        if isinstance(value, list):
            return [full(part) for part in value]
        return value * (1 + source.random() / 8)

    case["model"]["parameters"] = {name: full(value) for name, value in model_of(case).items()}
    case["posterior"]["parameters"] = {name: full(value) for name, value in q_of(case).items()}


def hard(case: Case, source: Source) -> None:
    """An encoder whose probabilities are within 1e-11 of 0 or 1."""
    q_of(case)["encoder.biases.0"] = [26.0, -31.0, 38.0]


def strong(case: Case, source: Source) -> None:
    """Prior logits from -4 to 5, none of them alike."""
    model_of(case)["prior.logits"] = [-4.0, 5.0, 2.25]


def positive_cases() -> Iterator[Case]:
    """In the order in which an implementation is best built."""
    yield shallow("linear", "One weight matrix: a sigmoid belief net, the smallest complete model.",
                  sizes=(3, 5), rows=4, draws=6)  # fmt: skip
    yield shallow("prior-strong", "A prior far from uniform: code that leaves log p(z) out, or takes it as uniform, "
                  "is far off here.", sizes=(3, 5), rows=4, draws=6, change=strong)  # fmt: skip
    yield shallow("tanh-one", "One hidden layer of tanh units in decoder and encoder.",
                  sizes=(3, 7, 5), encoder=(9,), rows=4, draws=6)  # fmt: skip
    yield shallow("relu-one", "One hidden layer of relu units.",
                  sizes=(3, 7, 5), encoder=(9,), rows=4, draws=6, activation="relu", recognition="relu")  # fmt: skip
    yield shallow("sigmoid-one", "One hidden layer of sigmoid units.", sizes=(3, 7, 5), encoder=(9,), rows=4, draws=6,
                  activation="sigmoid", recognition="sigmoid")  # fmt: skip
    yield shallow("mixed-activations", "A decoder of relu and an encoder of sigmoid units: each network has its own.",
                  sizes=(3, 7, 5), encoder=(9,), rows=4, draws=6, activation="relu", recognition="sigmoid")  # fmt: skip
    yield shallow("tanh-two", "Two hidden layers, the second narrower.",
                  sizes=(3, 9, 6, 5), encoder=(12, 7), rows=4, draws=10)  # fmt: skip
    yield shallow("sigmoid-two", "Two hidden layers of sigmoid units.", sizes=(3, 9, 6, 5), encoder=(12, 7), rows=4,
                  draws=10, activation="sigmoid", recognition="sigmoid")  # fmt: skip
    yield shallow("relu-two", "Two hidden layers of relu units, some of them off for every z.", sizes=(3, 9, 6, 5),
                  encoder=(12, 7), rows=4, draws=10, activation="relu", recognition="relu")  # fmt: skip
    yield shallow("one-latent", "K = 1: the sum has two terms.", sizes=(1, 5, 3), encoder=(6,), rows=4,
                  draws=7)  # fmt: skip
    yield shallow("one-observed", "L = 1: one observed bit.", sizes=(2, 6, 1), encoder=(5,), rows=3, draws=7,
                  change=lambda case, source: case["inputs"].update(x=[[1.0], [0.0], [1.0]]))  # fmt: skip
    yield shallow("one-row", "N = 1: a batch of one must keep its axis.", sizes=(3, 7, 5), encoder=(9,), rows=1,
                  draws=6)  # fmt: skip
    yield shallow("no-rows", "N = 0: an empty batch gives an empty answer, and gradients of zeros.",
                  sizes=(3, 7, 5), encoder=(9,), rows=0, draws=6, quantities=SUMMED)  # fmt: skip
    yield shallow("equal-rows", "Equal rows, all zeros and all ones: rows count as often as they occur.",
                  sizes=(3, 7, 5), encoder=(9,), rows=6, draws=10, change=repeated)  # fmt: skip
    yield shallow("odd-widths", "Widths that no vector unit divides, for code with loops unrolled by 4 or 8.",
                  sizes=(5, 19, 13), encoder=(11,), rows=7, draws=9)  # fmt: skip
    yield shallow("more-codes", "K = 7, 128 codes: the order of the codes, over two bytes of a table's index.",
                  sizes=(7, 9), rows=3, draws=5)  # fmt: skip
    yield shallow("wide", "L = 37 and more rows than a block of 8.", sizes=(4, 6, 37), encoder=(8,), rows=11,
                  draws=13)  # fmt: skip
    yield shallow("full-mantissas", "Parameters with all their 53 bits.", sizes=(3, 7, 5), encoder=(9,), rows=4,
                  draws=6, change=unrounded)  # fmt: skip
    yield shallow("flat-decoder", "A decoder that ignores z: the posterior is the prior, VLB = log p(x) - "
                  "KL(q || prior).", sizes=(3, 5), rows=4, draws=6, change=flat)  # fmt: skip
    yield shallow("tight-bound", "q is the posterior itself up to rounding: KL is 0 and the VLB is log p(x).",
                  sizes=(1, 4), rows=3, draws=5, change=tight)  # fmt: skip
    yield shallow("softplus-tails", "Logits of +-21 and more, where log(1 + exp(a)) must neither be cut off nor taken "
                  "from a rounded probability.", sizes=(3, 5), rows=4, draws=6, scale=0.25,
                  change=saturated)  # fmt: skip
    yield shallow("near-deterministic", "q within 1e-11 of 0 or 1: entropy and 0 log 0.", sizes=(3, 5), rows=4,
                  draws=6, scale=0.5, change=hard)  # fmt: skip
    yield shallow("extreme-logits", "Logits of several hundreds: exp overflows, log of a probability is log 0.",
                  sizes=(3, 5), rows=4, draws=6, scale=0.5, change=extreme)  # fmt: skip
    yield shallow("underflow", "Every p(x, z) is below the smallest double: log-sum-exp needs its shift.",
                  sizes=(3, 70), rows=4, draws=5, change=underflowing, scale=2.0)  # fmt: skip
    yield shallow("saturated-hidden", "Hidden tanh units at +-1 and derivatives near 0: weights of order 30.",
                  sizes=(3, 7, 5), encoder=(9,), rows=4, draws=6, scale=16.0)  # fmt: skip
    yield shallow("relu-at-zero", "Pre-activations that are exactly 0, where relu's derivative is 0.", sizes=(3, 7, 5),
                  encoder=(9,), rows=4, draws=6, activation="relu", recognition="relu", change=at_zero)  # fmt: skip
    yield shallow("impossible-codes", "Prior logits of -inf and +inf: log p(z) is -inf for some z, the VLB -inf, KL "
                  "+inf, log p(x) finite, and the gradient of such a logit 0.", sizes=(4, 6), rows=3, draws=7,
                  quantities=tuple(name for name in SUMMED if name != "grad_vlb"), change=impossible)  # fmt: skip
    yield shallow("ties", "Uniforms exactly at p = 1/2 and p = 0, and just below p = 1: a bit is u < p.",
                  sizes=(3, 5), rows=4, draws=6, quantities=("sample",), change=tied)  # fmt: skip
    yield deep("deep-collapsed", "Two layers of latents and one q: log p(z) of the lower is a marginal.",
               widths=(6, 3, 2), hidden=(None, None), encoder=(None, None), rows=5, draws=7, chain=False)  # fmt: skip
    yield deep("deep-collapsed-hidden", "The same with hidden layers in both decoders.", widths=(6, 3, 2),
               hidden=(7, 9), encoder=(10, None), rows=5, draws=12, chain=False)  # fmt: skip
    yield deep("helmholtz", "The Helmholtz machine: two layers of latents, q(z | x) q(z2 | z).", widths=(6, 3, 2),
               hidden=(None, None), encoder=(None, None), rows=5, draws=7, chain=True)  # fmt: skip
    yield deep("helmholtz-hidden", "The same with hidden layers everywhere.", widths=(6, 3, 2), hidden=(7, 9),
               encoder=(10, 11), rows=5, draws=12, chain=True)  # fmt: skip
    yield deep("helmholtz-three", "Three layers of latents.", widths=(7, 4, 3, 1), hidden=(None, 6, None),
               encoder=(None, 10, None), rows=5, draws=9, chain=True)  # fmt: skip


def weighted_cases() -> Iterator[Case]:
    """About bounds of several draws and draws of gradients, from the second edition on."""
    smooth = tuple(name for name in WEIGHTED if name != "draw_straight_through")
    yield with_draws(
        shallow("weighted-linear", "Three weights in a bound, two draws of each row: the smallest numbers at which "
                "leave-one-out and VIMCO are there.", sizes=(3, 5), rows=4, draws=6, quantities=()),
        3.0, 2)  # fmt: skip
    yield with_draws(
        shallow("weighted-tanh", "Hidden layers, and six draws of each row.", sizes=(3, 7, 5), encoder=(9,), rows=4,
                draws=6, quantities=()), 4.0, 6)  # fmt: skip
    yield with_draws(
        shallow("weighted-relu", "Relu units, through which slopes in z pass or do not.", sizes=(3, 9, 6, 5),
                encoder=(12, 7), rows=4, draws=10, activation="relu", recognition="relu", quantities=()),
        2.0, 10)  # fmt: skip
    yield with_draws(
        shallow("one-weight", "M = 1: the bound is the VLB, and reweighted wake-sleep's q does not move.",
                sizes=(2, 6, 7), encoder=(8,), rows=3, draws=5, quantities=()), 1.0, 5)  # fmt: skip
    yield with_draws(
        shallow("far-apart", "A q far from the posterior: weights that differ by many orders of magnitude.",
                sizes=(3, 10), encoder=(7,), rows=4, draws=5, scale=3.0, quantities=()), 3.0, 5)  # fmt: skip
    yield with_draws(
        deep("weighted-collapsed", "A deep model under one q: weights with the exact log p(z) of the lower layer.",
             widths=(6, 3, 2), hidden=(None, 7), encoder=(None, None), rows=5, draws=9, chain=False), 3.0, 9,
        smooth)  # fmt: skip


# What must be refused --------------------------------------------------------------------------------------------


def refused(identity: str, why: str, code: str, quantities: tuple[str, ...], change: Callable[[Case], None]) -> Case:
    """A sound case with one thing wrong."""
    case = shallow(identity, why, sizes=(3, 7, 5), encoder=(9,), rows=4, draws=6)
    change(case)
    return case | {"quantities": list(quantities), "error": code}


def put(path: str, *where: int, value: float) -> Callable[[Case], None]:
    """A change of one entry: path "inputs/x", "model/parameters/prior.logits", ..."""

    def change(case: Case) -> None:
        *above, last = path.split("/")
        inside: Any = case
        for name in (*above, last):
            inside = inside[name]
        for index in where[:-1]:
            inside = inside[index]
        inside[where[-1]] = value

    return change


def set_to(path: str, make: Callable[[Any], Any]) -> Callable[[Case], None]:
    """A change of a whole tensor."""

    def change(case: Case) -> None:
        *above, last = path.split("/")
        inside: Any = case
        for name in above:
            inside = inside[name]
        inside[last] = make(inside[last])

    return change


def narrower(case: Case) -> None:
    """An encoder with one logit too few."""
    set_to("posterior/parameters/encoder.weights.1", lambda w: [row[:-1] for row in w])(case)
    set_to("posterior/parameters/encoder.biases.1", lambda b: b[:-1])(case)


def negative_cases() -> Iterator[Case]:
    """Each asks for an error of a code."""
    on_x = quantities_where(lambda quantity: "x" in quantity["inputs"] and "z" not in quantity["inputs"])
    on_q = quantities_where(lambda quantity: quantity["posterior"])
    on_model = ("log_likelihood", "log_marginal", "vlb", "sample")
    decoder, encoder = "model/parameters/decoder.", "posterior/parameters/encoder."
    yield refused("wrong-x-columns", "x has a column too few.", "shape", on_x,
                  set_to("inputs/x", lambda x: [row[:-1] for row in x]))  # fmt: skip
    yield refused("wrong-x-axis", "x has one axis: it must not be broadcast or taken as a batch of one.", "shape", on_x,
                  set_to("inputs/x", lambda x: x[0]))  # fmt: skip
    yield refused("wrong-z-columns", "z has a column too many.", "shape", ("log_prior", "log_likelihood", "log_joint"),
                  set_to("inputs/z", lambda z: [[*row, 0.0] for row in z]))  # fmt: skip
    yield refused("wrong-pairs", "x and z have different numbers of rows.", "shape", ("log_likelihood", "log_joint"),
                  set_to("inputs/z", lambda z: z[:-1]))  # fmt: skip
    yield refused("wrong-prior-length", "One prior logit for three latent bits: it must not be broadcast.", "shape",
                  ("log_prior", "log_joint", "log_marginal", "sample"),
                  set_to("model/parameters/prior.logits", lambda a: a[:1]))  # fmt: skip
    yield refused("wrong-layers", "The second weight matrix does not follow on from the first.", "shape", on_model,
                  set_to(f"{decoder}weights.1", lambda w: w[:-1]))  # fmt: skip
    yield refused("wrong-transposed", "Weights as (fan_out, fan_in).", "shape", on_model,
                  set_to(f"{decoder}weights.0", lambda w: [list(c) for c in zip(*w, strict=True)]))  # fmt: skip
    yield refused("wrong-bias", "One bias for five outputs: it must not be broadcast.", "shape", on_model,
                  set_to(f"{decoder}biases.1", lambda b: b[:1]))  # fmt: skip
    yield refused("wrong-encoder", "An encoder that gives too few logits.", "shape", on_q,
                  narrower)  # fmt: skip
    yield refused("half-x", "x of 0.5: not a bit.", "domain", on_x, put("inputs/x", 2, 3, value=0.5))
    yield refused("two-x", "x of 2.", "domain", on_x, put("inputs/x", 0, 4, value=2.0))
    yield refused("nan-x", "x of NaN: comparisons with it are false, so a careless test lets it through.", "domain",
                  on_x, put("inputs/x", 3, 0, value=math.nan))  # fmt: skip
    yield refused("negative-z", "z of -1, as in {-1, 1} codes.", "domain",
                  ("log_prior", "log_likelihood", "log_joint"), put("inputs/z", 1, 2, value=-1.0))  # fmt: skip
    yield refused("nan-weight", "A weight of NaN.", "domain", on_model, put(f"{decoder}weights.0", 2, 6,
                  value=math.nan))  # fmt: skip
    yield refused("infinite-weight", "A weight of +inf.", "domain", on_model, put(f"{decoder}weights.1", 6, 4,
                  value=INF))  # fmt: skip
    yield refused("nan-prior", "A prior logit of NaN; infinities are legal there, NaN is not.", "domain",
                  ("log_prior", "log_joint", "log_marginal", "sample"),
                  put("model/parameters/prior.logits", 1, value=math.nan))  # fmt: skip
    yield refused("nan-encoder", "An encoder's bias of NaN.", "domain", on_q, put(f"{encoder}biases.0", 8,
                  value=math.nan))  # fmt: skip
    yield refused("uniform-one", "A uniform of 1: uniforms are in [0, 1).", "domain", ("sample", "sleep_step"),
                  put("inputs/uniforms_x", 5, 0, value=1.0))  # fmt: skip


def negative_weighted_cases() -> Iterator[Case]:
    """Those of the second edition."""

    def refused_draws(identity: str, why: str, quantities: tuple[str, ...], change: Callable[[Case], None]) -> Case:
        case = with_draws(
            shallow(identity, why, sizes=(3, 7, 5), encoder=(9,), rows=4, draws=6, quantities=()), 2.0, 6, quantities
        )
        change(case)
        return case | {"error": "domain"}

    bounds = ("iwae", "grad_iwae", "rws_update")
    yield refused_draws("no-weights", "A bound of no weights.", bounds, set_to("inputs/samples", lambda _: 0.0))
    yield refused_draws("half-a-weight", "A number of weights that is none.", bounds,
                        set_to("inputs/samples", lambda _: 2.5))  # fmt: skip
    yield refused_draws("draw-of-one", "A uniform of 1 among those of the draws.",
                        tuple(name for name in WEIGHTED if name.startswith("draw_")),
                        put("inputs/draw_uniforms", 1, 4, 2, value=1.0))  # fmt: skip


def dimensions(case: Case) -> list[int]:
    """Every length in a case, once for each axis that is an axis of its own."""
    widths: dict[str, int] = {"N": len(case["inputs"]["x"]), "L": 0}
    latents = latents_of(case)
    widths |= {f"K{d}": k for d, k in enumerate(latents)} | {f"codes{d}": 1 << k for d, k in enumerate(latents)}
    widths["L"] = len(model_of(case)["decoder.biases." + str(last_layer(case))])
    for kind, parameters in (("model", model_of(case)), ("q", q_of(case))):
        for name, value in parameters.items():
            stem, _, depth = name.rpartition(".")
            if stem.endswith("biases") and f"{stem}.{int(depth) + 1}" in parameters:
                widths[f"{kind} {name}"] = len(value)
    if "draw_uniforms" in case["inputs"]:
        widths["M"] = len(case["inputs"]["draw_uniforms"][0])
    if "uniforms_x" in case["inputs"]:
        widths["S"] = len(case["inputs"]["uniforms_x"])
    return list(widths.values())


def last_layer(case: Case) -> int:
    """The index of the decoder's last layer."""
    return sum(name.startswith("decoder.weights.") for name in model_of(case)) - 1
