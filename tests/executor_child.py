"""What one process, which runs the sums, does with an executor by name: `executor_child.py NAME [FAULT]`.

Prints the digest of everything that it has computed, or how it ended.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from pathlib import Path

import numpy as np
from problems import binary, deep, network, shallow

import refvlm
from refvlm.enumeration import executors


def everything(executor=None, workers=None):
    """The digest of sums of every kind: few rows, many, linear, with moments, gradients, draws."""
    rng, hasher = np.random.default_rng(0), hashlib.sha256()
    where = {"executor": executor, "workers": workers}
    for latents, hidden, rows in ((17, (6,), 3), (13, (6,), 40), (24, (), 2)):
        model, x = shallow(latents, hidden, 5, rng), binary(rows, 5, rng)
        q = refvlm.AmortisedPosterior(network([5, 4, latents], rng))
        parts = [refvlm.log_marginal(model, x, **where), refvlm.posterior_mean(model, x, **where)]
        if latents < 20:
            parts += [*refvlm.decompose(model, q, x, **where), refvlm.posterior(model, x[:2], **where)]
            parts += [
                *refvlm.grad_log_marginal(model, x, **where).values(),
                *refvlm.grad_vlb(model, q, x, **where).values(),
            ]
            parts.append(refvlm.iwae(model, q, x[:2], 3, **where))
        for part in parts:
            hasher.update(part.tobytes())
    model, x = shallow(28, (), 5, rng), binary(2, 5, rng)  # 64 pieces, several of them in a portion
    hasher.update(refvlm.posterior_mean(model, x, **where).tobytes())  # a logarithm would hide most last digits
    model, x = deep(2, 20, 5, rng), binary(4, 5, rng)  # whose masses of codes are put together in order
    for part in refvlm.grad_log_marginal(model, x, **where).values():
        hasher.update(part.tobytes())
    model, x = shallow(50, (), 9, rng), binary(2, 9, rng)
    bracket = refvlm.bracket(model, x, samples=100_000, boxes=30, rng=np.random.default_rng(1), **where)
    hasher.update(bracket.lower.tobytes() + bracket.upper.tobytes())
    return hasher.hexdigest()


def long_problem(latents=33):
    """A sum of a few seconds on one core."""
    rng = np.random.default_rng(0)
    return shallow(latents, (), 7, rng), binary(1, 7, rng)


def with_a_fault(executor, pids):
    """The bits of a long sum during which, a third through, the processes in these files are killed."""
    model, x = long_problem()
    left = list(pids)

    def progress(done, total):
        while left and 3 * done > total:
            os.kill(int(Path(left.pop()).read_text()), signal.SIGKILL)

    return refvlm.log_marginal(model, x, executor=executor, progress=progress).tobytes().hex()


def main():
    name, *pids = sys.argv[1:]
    try:
        with executors.opened(executors.parse(name)) as executor:
            print(with_a_fault(executor, pids) if pids else everything(executor))
    except (RuntimeError, OSError, ValueError) as error:
        print(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
