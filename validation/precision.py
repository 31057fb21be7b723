"""The reported error bounds of log p(x), posterior means, VLB, KL, IWAE, EUBO and others against rigorous arithmetic.

    python validation/precision.py                 ten thousand problems
    python validation/precision.py --quick         three hundred small ones
    python validation/precision.py --more          the same with leaky_relu, elu, softplus and silu instead
    python validation/precision.py --only cancelling:17   one of them again, with its numbers

Exact values come from ball arithmetic (python-flint's arb, two hundred bits and more until the ball is below 1e-30 of
the value), straight from the equations: products and sums of probabilities over all z, nothing of refvlm in them; for
IWAE-2 and IWAE-3 over all pairs and triples of z, where there are few. A
problem is made from the seeds (--seed, family, index). Printed by K and by family: how many values were compared, how
often a bound was broken, how large the errors came to be in units of their bounds, and how loose the bounds are.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from common import ACTIVATIONS, AGREES, DISAGREES, MORE_ACTIVATIONS, NO_FRAMEWORK, binary

import refvlm

try:
    import flint
except ImportError:
    flint = None

Array = Any
LATENTS = np.arange(1, 15)
MOST_TUPLES = 600
"""Multisets of z over which an IWAE is summed."""
SHARES = np.array([10, 14, 16, 16, 14, 10, 8, 5, 3, 2, 1, 0.5, 0.2, 0.1])


class Problem(NamedTuple):
    """A model, a recognition distribution over its latents (or None), rows of x."""

    model: refvlm.BernoulliLVM
    q: refvlm.PerDatumPosterior | refvlm.AmortisedPosterior | None
    x: Array


def sizes_of(rng: np.random.Generator, quick: bool) -> tuple[int, list[int], int, int]:
    """K, hidden widths, L, N; no two alike, around the edges of blocks and groups too."""
    shares = SHARES * (LATENTS <= 6) if quick else SHARES
    latents = int(rng.choice(LATENTS, p=shares / shares.sum()))
    most = 14 if latents < 10 else 6
    while True:
        hidden = [int(n) for n in rng.integers(1, most, size=rng.choice([0, 1, 1, 2, 3]))]
        small = latents < 8 and rng.random() < 0.1
        observed = int(rng.choice([15, 16, 17, 31, 33, 63, 64, 65, 70])) if small else int(rng.integers(1, most))
        rows = int(rng.choice([1, 2, 3, 5, 33, 40] if latents < 9 else [1, 2, 33]))
        if len({latents, *hidden, observed, rows}) == 3 + len(hidden):
            return latents, hidden, observed, rows


def layers(sizes: list[int], rng: np.random.Generator, kind: str) -> tuple[list[Array], list[Array]]:
    """Weights and biases of the family."""
    weights, biases = [], []
    for fan_in, fan_out in itertools.pairwise(sizes):
        w, b = rng.normal(size=(fan_in, fan_out)), rng.normal(size=fan_out)
        if kind == "ordinary":
            w, b = w / math.sqrt(fan_in), b / 2
        elif kind == "wide":
            scale = rng.choice([3.0, 30.0, 1e3])
            w, b = w * scale, b * scale
        elif kind == "scales":
            w, b = w * 10.0 ** rng.uniform(-300 if rng.random() < 0.2 else -6, 3), b * 10.0 ** rng.uniform(-6, 3)
        elif kind == "signs":
            w, b = 1e3 * np.sign(w), 1e3 * rng.integers(-1, 2, fan_out)
        elif kind == "cancelling":
            w = rng.choice([1e3, -1e3, 1e3 + 1e-3, -1e3 + 2.0**-20, 0.1], size=(fan_in, fan_out))
            b = rng.choice([0.0, 1e-3, -1e3], size=fan_out)
        elif kind == "sparse":
            w, b = w * 3 * (rng.random(w.shape) < 0.3), b * (rng.random(fan_out) < 0.3)
        weights.append(w)
        biases.append(np.asarray(b, dtype=float))
    return weights, biases


def prior_of(latents: int, rng: np.random.Generator, kind: str) -> Array:
    """Prior logits of the family."""
    logits = rng.normal(size=latents)
    if kind == "degenerate" or rng.random() < 0.2:
        values = [np.inf, -np.inf, 0.3, 30.0, -30.0, 700.0, -800.0, 1e6]
        logits = rng.choice(values, size=latents, p=[0.15, 0.15, 0.3, 0.1, 0.1, 0.08, 0.08, 0.04])
    return logits


def near_cutoffs(sizes: list[int], rng: np.random.Generator) -> tuple[list[Array], list[Array]]:
    """Last biases where exp vanishes, where products leave float64, and where the tables' floor lies."""
    weights, biases = layers(sizes, rng, "ordinary")
    kind = rng.integers(3)
    if kind == 0:
        biases[-1] = rng.choice([36.0, -36.0, 700.0, -700.0, 708.4, -708.4, 745.0, -745.0, 1000.0], size=sizes[-1])
    else:
        total = rng.uniform(600, 1100) if kind == 1 else rng.uniform(610, 640)
        biases[-1] = rng.choice([-1.0, 1.0], size=sizes[-1]) * total / sizes[-1]
    return weights, biases


def linear_ranges(sizes: list[int], rng: np.random.Generator) -> tuple[list[Array], list[Array]]:
    """Sums over low and high bits up to +-700 each, around the linear kernel's guards."""
    w = rng.normal(size=(sizes[0], sizes[-1]))
    reach = rng.choice([10.0, 60.0, 125.0, 250.0, 420.0, 600.0, 690.0, 720.0]) / max(1, rng.integers(1, sizes[-1] + 1))
    return [w / np.abs(w).sum(axis=0) * reach], [rng.normal(size=sizes[-1])]


FAMILIES = ["ordinary", "wide", "scales", "signs", "cancelling", "sparse", "degenerate", "cutoffs", "ranges", "deep"]


def problem(family: str, index: int, seed: int, quick: bool, activations: tuple[str, ...] = ACTIVATIONS) -> Problem:
    """The index-th problem of a family."""
    rng = np.random.default_rng([seed, FAMILIES.index(family), index])
    latents, hidden, observed, rows = sizes_of(rng, quick)
    activation = str(rng.choice(activations))
    if family == "ranges":
        latents, hidden = (latents if quick else int(rng.choice([latents, 10, 11, 12]))), []
    if family == "deep":
        latents = min(latents, 5)
    sizes = [latents, *hidden, observed]
    if family == "cutoffs":
        arrays = near_cutoffs(sizes, rng)
    elif family == "ranges":
        arrays = linear_ranges(sizes, rng)
    else:
        arrays = layers(sizes, rng, "ordinary" if family in ("degenerate", "deep") else family)
    prior: Any = refvlm.Bernoulli(prior_of(latents, rng, family))
    if family == "deep":
        above = int(rng.integers(1, 5))
        upper = refvlm.MLP(*layers([above, latents + 1, latents], rng, str(rng.choice(["ordinary", "wide"]))), "tanh")
        prior = refvlm.BernoulliLVM(refvlm.Bernoulli(rng.normal(size=above)), upper)
    model = refvlm.BernoulliLVM(prior, refvlm.MLP(*arrays, activation))
    x = np.concatenate([model.sample(rows - rows // 2, rng)[0], binary(rows // 2, observed, rng)])
    kind = rng.integers(3)
    q: Any = None
    if kind == 1:
        q = refvlm.PerDatumPosterior(rng.normal(size=(rows, latents)) * rng.choice([0.5, 5.0, 50.0]))
    elif kind == 2:
        encoder = layers([observed, latents + 2, latents], rng, str(rng.choice(["ordinary", "wide"])))
        q = refvlm.AmortisedPosterior(refvlm.MLP(*encoder, activation))
    return Problem(model, q, x)


# --- the exact values -----------------------------------------------------------------------------------------------


def sigmoids(a: Any) -> tuple[Any, Any]:
    """sigmoid(a) and sigmoid(-a)."""
    one, e = flint.arb(1), (-abs(a)).exp()
    likely, rare = one / (one + e), e / (one + e)
    return (likely, rare) if a.mid() >= 0 else (rare, likely)


def bernoulli(logit: float) -> tuple[Any, Any]:
    """Probabilities of 1 and 0 for a logit that may be infinite."""
    if math.isinf(logit):
        return (flint.arb(1), flint.arb(0)) if logit > 0 else (flint.arb(0), flint.arb(1))
    return sigmoids(flint.arb(logit))


def network(mlp: refvlm.MLP, rows: list[list[int]]) -> list[list[Any]]:
    """Outputs for rows of bits."""
    act = {
        "tanh": lambda a: a.tanh(),
        "relu": lambda a: a if a.mid() > 0 else flint.arb(0),
        "sigmoid": lambda a: sigmoids(a)[0],
        "leaky_relu": lambda a: a if a.mid() > 0 else flint.arb(0.01) * a,
        "elu": lambda a: a if a.mid() > 0 else a.expm1(),
        "softplus": lambda a: a + (-a).exp().log1p() if a.mid() > 0 else a.exp().log1p(),
        "silu": lambda a: a * sigmoids(a)[0],
    }[mlp.activation]
    h = flint.arb_mat([[flint.arb(v) for v in row] for row in rows])
    for layer, (w, b) in enumerate(zip(mlp.weights, mlp.biases, strict=True)):
        if layer > 0:
            h = flint.arb_mat([[act(h[i, j]) for j in range(h.ncols())] for i in range(h.nrows())])
        weights = flint.arb_mat([[flint.arb(v) for v in row] for row in w.tolist()])
        shift = flint.arb_mat([[flint.arb(v) for v in b.tolist()] for _ in rows])
        h = h * weights + shift
    return [[h[i, j] for j in range(h.ncols())] for i in range(h.nrows())]


def product(pairs: list[tuple[Any, Any]], row: list[int]) -> Any:
    """The probability of the bits; a pair has those of 1 and 0."""
    result = flint.arb(1)
    for (on, off), bit in zip(pairs, row, strict=True):
        result = result * (on if bit else off)
    return result


def evidence(model: refvlm.BernoulliLVM, rows: list[list[int]]) -> tuple[list[list[Any]], list[Any]]:
    """p(x_n, z) by row and code, and p(z)."""
    z = refvlm.bits.table(model.latents).tolist()
    if isinstance(model.prior, refvlm.Bernoulli):
        pairs = [bernoulli(v) for v in model.prior.logits.tolist()]
        prior = [product(pairs, code) for code in z]
    else:
        prior = [sum(joint, flint.arb(0)) for joint in evidence(model.prior, z)[0]]
    columns = [[sigmoids(a) for a in logits] for logits in network(model.decoder, z)]
    return [[p * product(c, row) for p, c in zip(prior, columns, strict=True)] for row in rows], prior


def exact_values(p: Problem) -> dict[str, list[Any]]:
    """Balls by quantity, raveled as refvlm's arrays are."""
    rows, z = p.x.tolist(), refvlm.bits.table(p.model.latents).tolist()
    joints, _ = evidence(p.model, rows)
    totals = [sum(joint, flint.arb(0)) for joint in joints]
    values = {"log p(x)": [total.log() for total in totals], "posterior mean": []}
    for joint, total in zip(joints, totals, strict=True):
        for k in range(p.model.latents):
            part = sum((j for j, code in zip(joint, z, strict=True) if code[k]), flint.arb(0))
            values["posterior mean"].append(part / total)
    if p.q is not None:
        if isinstance(p.q, refvlm.PerDatumPosterior):
            logits = [[flint.arb(v) for v in row] for row in p.q.logits.tolist()]
        else:
            logits = network(p.q.encoder, rows)
        values["VLB"], values["KL"] = [], []
        for a, joint, total in zip(logits, joints, totals, strict=True):
            pairs, bound = [sigmoids(v) for v in a], flint.arb(0)
            for code, j in zip(z, joint, strict=True):
                q = product(pairs, code)
                bound = bound + (q * (j / q).log() if j > 0 else flint.arb("-inf"))
            values["VLB"].append(bound)
            values["KL"].append(total.log() - bound)
        for name, of_weights in BY_WEIGHTS.items():
            if tuples_of(name, p.model.latents) <= MOST_TUPLES:
                values[name] = [
                    of_weights([product([sigmoids(v) for v in a], code) for code in z], joint)
                    for a, joint in zip(logits, joints, strict=True)
                ]
    return values


def tuples_of(name: str, latents: int) -> int:
    """Multisets of codes in a bound by several samples; 0 for one of single draws."""
    samples = int(name[5:]) if name.startswith("IWAE") else 0
    return math.comb(2**latents + samples - 1, samples) if samples else 0


def iwae_of(samples: int) -> Callable[[list[Any], list[Any]], Any]:
    """E log of the mean of so many weights, over all multisets of codes."""

    def value(q: list[Any], joint: list[Any]) -> Any:
        if any(j == 0 for j in joint):
            return flint.arb("-inf")
        total = flint.arb(0)
        weights = [j / p for j, p in zip(joint, q, strict=True)]
        for chosen in itertools.combinations_with_replacement(range(len(q)), samples):
            ways = math.factorial(samples)
            for count in Counter(chosen).values():
                ways //= math.factorial(count)
            term = flint.arb(ways)
            for code in chosen:
                term = term * q[code]
            total = total + term * (sum((weights[code] for code in chosen), flint.arb(0)) / samples).log()
        return total

    return value


def mean_log(q: list[Any], joint: list[Any]) -> Any:
    """EUBO."""
    terms = (j * (j / p).log() for p, j in zip(q, joint, strict=True) if j > 0)
    return sum(terms, flint.arb(0)) / sum(joint, flint.arb(0))


BY_WEIGHTS: dict[str, Callable[[list[Any], list[Any]], Any]] = {
    "EUBO": mean_log,
    "CUBO-2": lambda q, joint: sum((j * j / p for p, j in zip(q, joint, strict=True)), flint.arb(0)).log() / 2,
    "Renyi 1/2": lambda q, joint: sum(((p * j).sqrt() for p, j in zip(q, joint, strict=True)), flint.arb(0)).log() * 2,
    "IWAE-2": iwae_of(2),
    "IWAE-3": iwae_of(3),
}


def exact(p: Problem) -> dict[str, list[Any]]:
    """`exact_values` with as many bits as it takes."""
    bits = 200
    while True:
        flint.ctx.prec = bits
        values = exact_values(p)
        balls = [ball for column in values.values() for ball in column if ball.is_finite()]
        if all(float(ball.rad()) <= 1e-30 * max(1e-30, abs(float(ball.mid()))) or ball == 0 for ball in balls):
            return values
        if bits > 20000:
            raise ArithmeticError("the ball stays too large")
        bits *= 2


# --- the comparison -------------------------------------------------------------------------------------------------


class Tally:
    """One line of the table."""

    def __init__(self) -> None:
        self.values = self.broken = self.exact = 0
        self.largest = 0.0
        self.relative = 0.0
        self.loose: list[float] = []

    def add(self, error: float, bound: float, value: float) -> None:
        """One comparison."""
        self.values += 1
        self.broken += not error <= bound < math.inf
        self.exact += error == 0
        self.largest = max(self.largest, error / bound if bound > 0 else (0.0 if error == 0 else math.inf))
        self.relative = max(self.relative, bound / (1 + abs(value)))
        if error > 0:
            self.loose.append(bound / error)


def found(p: Problem) -> dict[str, tuple[Array, Array]]:
    """What refvlm says: values and bounds."""
    mean = refvlm.posterior_mean(p.model, p.x, with_error=True)
    result = {"log p(x)": refvlm.log_marginal(p.model, p.x, with_error=True), "posterior mean": mean}
    if p.q is not None:
        result["VLB"] = refvlm.vlb(p.model, p.q, p.x, with_error=True)
        result["KL"] = refvlm.kl(p.model, p.q, p.x, with_error=True)
        result["EUBO"] = refvlm.eubo(p.model, p.q, p.x, with_error=True)
        result["CUBO-2"] = refvlm.cubo(p.model, p.q, p.x, 2, with_error=True)
        result["Renyi 1/2"] = refvlm.renyi(p.model, p.q, p.x, 0.5, with_error=True)
        for samples in (2, 3):
            name = f"IWAE-{samples}"
            if tuples_of(name, p.model.latents) <= MOST_TUPLES:
                try:
                    result[name] = refvlm.iwae(p.model, p.q, p.x, samples, with_error=True)
                except ValueError as error:  # weights that spread over more nats than anybody has
                    if "log weights down to" not in str(error):
                        raise
    return result


def compare(p: Problem, name: str, tallies: list[dict[tuple[str, str], Tally]], keys: list[str], loud: bool) -> None:
    """Hold one problem's values against the exact ones."""
    values = exact(p)
    for quantity, (got, bounds) in found(p).items():
        for value, bound, ball in zip(got.ravel(), bounds.ravel(), values[quantity], strict=True):
            if not ball.is_finite():
                error = 0.0 if math.isinf(value) else math.inf
            else:
                error = abs(float((ball - flint.arb(float(value))).mid()))
            if loud or not error <= bound < math.inf:
                print(f"{'' if loud else 'BROKEN  '}{name}  {quantity}: K={p.model.latents} L={p.model.observed} "
                      f"N={len(p.x)} got {float(value).hex()} exact {ball.str(30)} error {error:.3g} bound {bound:.3g}",
                      flush=True)  # fmt: skip
            for tally, key in zip(tallies, keys, strict=True):
                tally[quantity, key].add(error, float(bound), float(value) if math.isfinite(value) else 0.0)


def show(title: str, tally: dict[tuple[str, str], Tally], counts: dict[str, int]) -> None:
    """One table."""
    print(f"\n{'quantity':15} {title:>10} {'problems':>8} {'values':>8} {'broken':>6} {'largest error/bound':>20} "
          f"{'median bound/error':>19} {'exact':>7} {'largest bound/(1+|v|)':>22}")  # fmt: skip
    for (quantity, key), t in tally.items():
        loose = np.median(t.loose) if t.loose else math.nan
        print(f"{quantity:15} {key:>10} {counts[key]:>8} {t.values:>8} {t.broken:>6} {t.largest:>20.2g} {loose:>19.0f} "
              f"{t.exact:>7} {t.relative:>22.1e}")  # fmt: skip


def main() -> int:
    """Run the problems and print the tables; the exit code."""
    parser = argparse.ArgumentParser(description="error bounds against rigorous arithmetic")
    parser.add_argument("--quick", action="store_true", help="300 problems with K <= 6")
    parser.add_argument("--problems", type=int, help="how many (default: 10000; with --quick 300)")
    parser.add_argument("--more", action="store_true", help=f"with {', '.join(MORE_ACTIVATIONS)}")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--only", metavar="FAMILY:INDEX", help="one problem, with its numbers")
    arguments = parser.parse_args()
    if flint is None:
        print("python-flint is not installed: nothing was compared")
        return NO_FRAMEWORK
    by_k: dict[tuple[str, str], Tally] = defaultdict(Tally)
    by_family: dict[tuple[str, str], Tally] = defaultdict(Tally)
    if arguments.only:
        family, index = arguments.only.split(":")
        chosen = [(family, int(index))]
    else:
        count = arguments.problems or (300 if arguments.quick else 10000)
        chosen = [(FAMILIES[n % len(FAMILIES)], n // len(FAMILIES)) for n in range(count)]
    counts: dict[str, int] = defaultdict(int)
    start = shown = time.monotonic()
    for done, (family, index) in enumerate(chosen):
        activations = MORE_ACTIVATIONS if arguments.more else ACTIVATIONS
        p = problem(family, index, arguments.seed, arguments.quick, activations)
        keys = [f"{p.model.latents:2d}", family]
        compare(p, f"{family}:{index}", [by_k, by_family], keys, bool(arguments.only))
        for key in keys:
            counts[key] += 1
        if time.monotonic() - shown > 5:
            shown = time.monotonic()
            print(f"{done + 1} of {len(chosen)} problems, {shown - start:.0f} s", file=sys.stderr)
    show("K", dict(sorted(by_k.items())), counts)
    show("family", dict(sorted(by_family.items())), counts)
    broken = sum(t.broken for t in by_k.values())
    print(f"\n{len(chosen)} problems, {sum(t.values for t in by_k.values())} values, {broken} bounds broken, "
          f"{time.monotonic() - start:.0f} s: {'DISAGREES' if broken else 'agrees'}")  # fmt: skip
    return DISAGREES if broken else AGREES


if __name__ == "__main__":
    sys.exit(main())
