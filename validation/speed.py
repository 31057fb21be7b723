"""Write speed.md from a new `refvlm bench` of this tree, same options and exit code: `python validation/speed.py`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PAGE = """\
# Speed

{}.
{}.

Billions of float64 operations per second, by so many workers at once (`refvlm/enumeration/kernels/roofline.py`):

{}

Nanoseconds per latent state, for all N rows together, by all workers:

{}

{}

A work is log p(x) of N rows under a random model of K latent bits, H hidden tanh units (0: no hidden layer) and L
observed bits; *gradient* has the gradient in every parameter as well. In *flatness* only K changes: the time per state
should not, but for a millisecond per call. *limit* is what the arithmetic takes at the rates above (counted in
`refvlm/bench/limits.py`), *of limit* the limit over the time: near 100 % there is little left to gain. PyTorch and JAX
do the same sum on the CPU in chunks of codes, best of several chunk sizes, numbers of threads and forms, in turn with
refvlm, at the K of the last column, because their cost per state does not depend on it; in brackets, how many times
faster refvlm is. Where nothing else runs, times are good to about 10 %; where something does, they say little.
"""


def table(heads: list[str], rows: list[list[str]]) -> str:
    """In Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [heads, ["---"] + ["--:"] * (len(heads) - 1), *rows])


def digits(value: float) -> str:
    """At least three."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def page(lines: list[dict[str, Any]], written: str) -> str:
    """The page, from the lines of `refvlm bench --json`; written: how and when."""
    rates, works = ([line for line in lines if key in line] for key in ("roofline", "work"))
    heads, *operations = zip(*(rate["roofline"].items() for rate in rates), strict=True)
    roofline = [[row[0][0], *(digits(value) for _, value in row)] for row in operations]
    rows, notes = [], []
    for work in works:
        times = [digits(work["ns_per_state"]), digits(work["limit_ns"]), f"{work['percent_of_limit']:.0f} %"]
        found = [work["peers"].get(name) for name in ("torch", "jax")]
        peers = [f"{digits(p['ns_per_state'])} ({digits(p['times_faster'])} x)" if p else "" for p in found]
        latents = ", ".join({str(p["K"]) for p in found if p})
        rows.append([work["work"], *(str(work[key]) for key in "KHLN"), *times, *peers, latents])
        if work["peak_bytes"]:
            notes.append(f"{work['work']}: {work['seconds']:.2f} s, {work['peak_bytes'] / 2**20:.0f} MiB at the most.")
    verdicts = {True: "All answers agree within 1e-9.", False: "ANSWERS DISAGREE.", None: "No framework compared."}
    machine = ", ".join(f"{key} {value}" for key, value in lines[0]["machine"].items() if value is not None)
    notes.append(verdicts[lines[-1]["summary"]["peers_agree"]])
    first = table(["workers", *(str(count) for _, count in heads)], roofline)
    second = table(["work", *"KHLN", "ns", "limit", "of limit", "torch", "jax", "their K"], rows)
    return PAGE.format(written, machine, first, second, " ".join(notes))


if __name__ == "__main__":
    call = [sys.executable, "-m", "refvlm", "bench", "--json", *sys.argv[1:]]
    paths = os.environ | {"PYTHONPATH": str(HERE.parent)}
    done = subprocess.run(call, stdout=subprocess.PIPE, text=True, env=paths, check=False)
    if done.returncode in (0, 1):
        written = f"`{' '.join(['python validation/speed.py', *sys.argv[1:]])}`, {date.today().isoformat()}"
        (HERE / "speed.md").write_text(page([json.loads(line) for line in done.stdout.splitlines()], written))
    sys.exit(done.returncode)
