"""Mistakes from public bug reports in a real program: `python validation/diagnoses_torch.py [PART OF A NAME ...]`.

Each is an edit of candidates/torch_candidate.py, which `refvlm conform` then examines, in float64 and in float32. A
diagnosis is wrong if it names what the edit did not do, or another number. Prints what fails and what is offered.
Exits with 1 if any is named wrongly, with 77 where PyTorch is not installed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from common import AGREES, DISAGREES, NO_FRAMEWORK

CANDIDATES = Path(__file__).resolve().parent / "candidates"
SOURCE = (CANDIDATES / "torch_candidate.py").read_text()
SECONDS = 120

_PROBABILITY = "    return torch.where(bits == 1, logsigmoid(logits), logsigmoid(-logits)).sum(-1)\n"
_LIKELIHOOD = '        return log_bernoulli(x, self.logits("prior." * depth + "decoder.", z))\n'
_PRIOR = '        return log_bernoulli(z, self.parameters["prior." * (depth + 1) + "logits"])\n'
_BOUND = "        return prior + reconstruction + entropy\n"
_MARGINAL = '        return self.model.log_joints(self.inputs["x"]).logsumexp(-1)\n'


class Edited(NamedTuple):
    """What was done, the replacements of lines, and the catalogue's words for it, of which any may be offered."""

    what: str
    lines: tuple[tuple[str, str], ...]
    words: tuple[str, ...]


def _probability(*lines: str) -> tuple[tuple[str, str], ...]:
    """log p of bits from logits, written anew."""
    return ((_PROBABILITY, "".join(f"    {line}\n" for line in lines)),)


def _clipped(epsilon: str) -> tuple[tuple[str, str], ...]:
    return _probability(
        f"p = logits.sigmoid().clamp({epsilon}, 1 - {epsilon})",
        "return torch.where(bits == 1, p.log(), (1 - p).log()).sum(-1)",
    )


def _shifted(epsilon: str) -> tuple[tuple[str, str], ...]:
    return _probability(
        "p = logits.sigmoid()",
        f"return (bits * torch.log(p + {epsilon}) + (1 - bits) * torch.log(1 - p + {epsilon})).sum(-1)",
    )


def _bound(formula: str) -> tuple[tuple[str, str], ...]:
    return ((_BOUND, f"        return {formula}\n"),)


def _likelihood(*lines: str) -> tuple[tuple[str, str], ...]:
    return ((_LIKELIHOOD, "".join(f"        {line}\n" for line in lines)),)


_LOGITS = 'self.logits("prior." * depth + "decoder.", z)'
_LOG = f"log_bernoulli(x, {_LOGITS})"
_ANY_BITS = _probability(
    "sides = logsigmoid(logits), logsigmoid(-logits)",
    "between = bits * sides[0] + (1 - bits) * sides[1]",
    "return torch.where(bits == 1, sides[0], torch.where(bits == 0, sides[1], between)).sum(-1)",
)
_WEIGHTED = ("weighted-terms",)

EDITED = (
    Edited("clamp(p, 1e-6)", _clipped("1e-6"), ("clipped-probability 1e-06",)),
    Edited("clamp(p, 1e-7)", _clipped("1e-7"), ("clipped-probability 1e-07",)),
    Edited("clamp(p, float32's eps)", _clipped("torch.finfo(torch.float32).eps"), ("clipped-probability 1.19e-07",)),
    Edited("clamp(p, the dtype's eps)", _clipped("torch.finfo(logits.dtype).eps"), ("clipped-probability",)),
    Edited("log(p + 1e-10)", _shifted("1e-10"), ("epsilon-in-both 1e-10", "epsilon-in-logarithm 1e-10")),
    Edited("log(p + 1e-8)", _shifted("1e-8"), ("epsilon-in-both 1e-08", "epsilon-in-logarithm 1e-08")),
    Edited("log(p + 1e-8), of the side that is", _probability(
        "p = torch.where(bits == 1, logits.sigmoid(), (-logits).sigmoid())", "return (p + 1e-8).log().sum(-1)",
    ), ("epsilon-in-logarithm 1e-08",)),
    Edited("binary_cross_entropy on probabilities", _probability(
        "p, t = torch.broadcast_tensors(logits.sigmoid(), bits)",
        "return -torch.nn.functional.binary_cross_entropy(p, t, reduction='none').sum(-1)",
    ), ("clamped-logarithm 100", "rounded-probability")),
    Edited("the loss -log p(x)", ((_MARGINAL, _MARGINAL.replace("return ", "return -")),), ("multiplied",)),
    Edited("the loss -VLB", _bound("-(prior + reconstruction + entropy)"), _WEIGHTED),
    Edited("reconstruction plus KL", _bound("reconstruction - prior - entropy"), _WEIGHTED),
    Edited("KL averaged over latents", _bound("reconstruction + (prior + entropy) / self.model.latents(0)"), _WEIGHTED),
    Edited("reconstruction averaged over pixels, in the bound",
           _bound('prior + reconstruction / self.inputs["x"].shape[-1] + entropy'), _WEIGHTED),
    Edited("likelihood averaged over pixels", _likelihood(f"return {_LOG} / x.shape[-1]"), ("mean-over-pixels",)),
    Edited("KL averaged over the batch", _bound("reconstruction + (prior + entropy).mean()"), ()),
    Edited("cross-entropy, arguments exchanged", _likelihood(
        f"p, t = torch.broadcast_tensors({_LOGITS}.sigmoid(), x)",
        'return -torch.nn.functional.binary_cross_entropy(t, p, reduction="none").sum(-1)',
    ), ("exchanged-arguments",)),
    Edited("cross-entropy with logits, arguments exchanged", _likelihood(
        f"a, t = torch.broadcast_tensors({_LOGITS}, x)",
        'return -torch.nn.functional.binary_cross_entropy_with_logits(t, a, reduction="none").sum(-1)',
    ), ("exchanged-logits",)),
    Edited("mean of logs for log of a mean", ((_MARGINAL, (
        "        z = codes(self.model.latents(0))\n"
        "        likelihoods = self.model.log_likelihood(self.inputs['x'][:, None], z[None])\n"
        "        return expectation(self.model.log_prior(z).exp(), likelihoods)\n"
    )),), ("mean-of-logarithms",)),
    Edited("a bit fires where u > p", (("uniforms < logits.sigmoid()", "uniforms > logits.sigmoid()"),),
           ("fires-above",)),
    Edited("a bit fires where u <= p", (("uniforms < logits.sigmoid()", "uniforms <= logits.sigmoid()"),),
           ("inclusive-comparison",)),
    Edited("a parameter set to its gradient", (("(value + rate * slopes[name])", "(rate * slopes[name])"),),
           ("gradient-for-step",)),
    Edited("sleep phase: q's own means for the dream's z", (
        ("self.q.log_q(self.model, layers[0], layers[1:]).mean()",
         "self.q.log_q(self.model, layers[0], [self.q.logits(p, b).sigmoid().detach() "
         "for p, b in zip(self.q.prefixes(self.model), layers)]).mean()"), *_ANY_BITS,
    ), ("recognised-in-sleep",)),
    Edited("wake phase: the model's mean for x", (
        ("logs = self.model.log_likelihood(layers[0], layers[1]) +",
         "a = self.model.logits('decoder.', layers[1])\n        mean = a.sigmoid().detach()\n"
         "        logs = (mean * logsigmoid(a) + (1 - mean) * logsigmoid(-a)).sum(-1) +"),
    ), ("dream-in-wake",)),
    Edited("wake phase: q's means for draws of z", (
        ('layers.append(fire(self.q.logits(prefix, layers[-1]), self.inputs[f"wake_uniforms_{layer(d)}"]))',
         "layers.append(self.q.logits(prefix, layers[-1]).sigmoid().detach())"), *_ANY_BITS,
    ), ("means-for-draws",)),
    Edited("beta 0.5", _bound("reconstruction + 0.5 * (prior + entropy)"), _WEIGHTED),
    Edited("beta 4", _bound("reconstruction + 4 * (prior + entropy)"), _WEIGHTED),
    Edited("codes in another order", (("torch.arange(latents) & 1", "torch.arange(latents - 1, -1, -1) & 1"),),
           ("reversed-codes",)),
    Edited("latents in reverse at the decoder", _likelihood(f"return {_LOG.replace(' z)', ' z.flip(-1))')}"),
           ("reversed-latents",)),
    Edited("posterior transposed", (
        ('        return self.model.log_joints(self.inputs["x"]).softmax(-1)\n',
         '        return self.model.log_joints(self.inputs["x"]).softmax(-1).T\n'),
        ("return self.posterior() @", "return self.posterior().T @"),
    ), ("transposed",)),
    Edited("softmax over rows", ((".softmax(-1)", ".softmax(0)"),), ("normalised-over-rows",)),
    Edited("weights read by columns", (
        ("torch.tensor(value, dtype=torch.get_default_dtype(), requires_grad=True)",
         "torch.tensor(value.ravel().reshape(value.shape, order='F'), dtype=torch.get_default_dtype(), "
         "requires_grad=True)"),
    ), ("column-major-weights",)),
    Edited("float32 at the likelihood", _likelihood(f"return {_LOG}.float().to(x.dtype)"), ("single-precision",)),
    Edited("float32 at the prior", ((_PRIOR, f"{_PRIOR[:-1]}.float().to(z.dtype)\n"),), ("single-precision",)),
    Edited("log(1 + exp(a))",
           _probability("return (bits * logits - torch.log(1 + torch.exp(logits))).sum(-1)"),
           ("naive-softplus", "zero-times-infinity")),
    Edited("prior left out of joint and bound", (
        ("return likelihood if WRONG else likelihood + prior", "return likelihood"),
        ("torch.zeros_like(q_z) if WRONG else path_prior", "torch.zeros_like(q_z)"),
    ), ("missing-prior",)),
    Edited("prior left out of the bound", (
        ("torch.zeros_like(q_z) if WRONG else path_prior", "torch.zeros_like(q_z)"),
    ), ("missing-prior", *_WEIGHTED)),
    Edited("sigmoid twice in the decoder", _likelihood(f"return {_LOG[:-1]}.sigmoid())"), ("sigmoid-twice",)),
    Edited("sigmoid twice in q", (
        ("logs = log_bernoulli(layers[0], self.logits(prefixes[0], x))",
         "logs = log_bernoulli(layers[0], self.logits(prefixes[0], x).sigmoid())"),
    ), ("phi-as-logits",)),
    Edited("log of a sum of exp, not shifted",
           ((_MARGINAL, _MARGINAL.replace("logsumexp(-1)", "exp().sum(-1).log()")),), ("unshifted-sum",)),
    Edited("log(1 - sigmoid(a))", _probability(
        "p = logits.sigmoid()", "return torch.where(bits == 1, p.log(), (1 - p).log()).sum(-1)",
    ), ("rounded-probability",)),
    Edited("x log p + (1 - x) log(1 - p)", _probability(
        "p = logits.sigmoid()", "return (bits * p.log() + (1 - bits) * (1 - p).log()).sum(-1)",
    ), ("zero-times-log-zero", "rounded-probability")),
)  # fmt: skip


def source_of(edited: Edited) -> str:
    """The candidate's text after the edit."""
    text = SOURCE
    for old, new in edited.lines:
        if text.count(old) != 1:
            raise SystemExit(f"{edited.what}: the candidate has {text.count(old)} times {old.strip()!r}, wanted 1")
        text = text.replace(old, new)
    return text


def examined(edited: Edited, precision: str) -> dict[str, Any]:
    """What `refvlm conform --json` reports of the edited candidate."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "candidate.py"
        program.write_text(source_of(edited))
        shutil.copy(CANDIDATES / "speak.py", folder)
        command = [sys.executable, "-m", "refvlm", "conform", "--json", "--time-limit", str(SECONDS), "--"]
        done = subprocess.run(
            [*command, sys.executable, str(program), precision], capture_output=True, text=True,
            env=os.environ | {"PYTHONPATH": str(CANDIDATES.parent.parent), "PYTHONWARNINGS": "ignore"},
        )  # fmt: skip
    if not done.stdout:
        raise SystemExit(f"{edited.what}, {precision}: no report: {done.stderr.strip()}")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def judged(edited: Edited, report: dict[str, Any]) -> str:
    """Of one: passes, named, imprecise, not named, or wrong."""
    if not report["failed"]:
        return "passes"
    offered = report["explanations"]
    if not offered:
        return "imprecise" if report["imprecise"] else "not named"
    return "named" if all(_true(edited, each) for each in offered) else "wrong"


def _true(edited: Edited, explanation: dict[str, Any]) -> bool:
    """Whether an explanation says what was done; of two mistakes together both, and with the number that was used."""
    known = [word.split() for word in edited.words]
    return all(
        any(part == name and all(number in explanation["title"] for number in numbers) for name, *numbers in known)
        for part in explanation["mistake"].split("-and-")
    )


def main() -> int:
    """The table and the verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="PART", help="of the names of those to run (default: all)")
    parser.add_argument("--precision", choices=("float64", "float32"), help="(default: both)")
    arguments = parser.parse_args()
    if find_spec("torch") is None:
        print("PyTorch is not installed: nothing was compared", file=sys.stderr)
        return NO_FRAMEWORK
    chosen = [each for each in EDITED if not arguments.names or any(part in each.what for part in arguments.names)]
    counts: Counter[str] = Counter()
    print(
        f"{'what was done':52}{'precision':>10}{'failed':>8}  {'verdict':10}offered, and how many answers it explains"
    )
    for precision in [arguments.precision] if arguments.precision else ["float64", "float32"]:
        for edited in chosen:
            report = examined(edited, precision)
            verdict = judged(edited, report)
            counts[verdict] += 1
            offered = "; ".join(f"{each['title']} ({each['explained']})" for each in report["explanations"])
            print(f"{edited.what:52}{precision:>10}{report['failed']:8}  {verdict:10}{offered}", flush=True)
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    print(f"expected 0 wrong names, got {counts['wrong']}: {'DISAGREES' if counts['wrong'] else 'agrees'}")
    return DISAGREES if counts["wrong"] else AGREES


if __name__ == "__main__":
    sys.exit(main())
