"""Write a section of speed.md from a new `refvlm bench` of this tree, same options and exit code.

    python validation/speed.py                  the section of this processor's vectors
    python validation/speed.py --cpu haswell    that of narrower ones, as if on such a processor

A section is named by the instructions that were used, and replaces the one of that name.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
HEAD = """\
# Speed

A work is log p(x) of N rows under a random model of K latent bits, H hidden tanh units (0: no hidden layer) and L
observed bits; *gradient* has the gradient in every parameter as well. In *flatness* only K changes: the time per state
should not, but for a millisecond per call. Nanoseconds are per latent state, for all N rows together, by all workers.
*limit* is what the arithmetic takes at the rates above it (counted in `refvlm/bench/limits.py`, measured by
`refvlm/enumeration/kernels/roofline.py`), *of limit* the limit over the time: near 100 % there is little left to gain.
PyTorch and JAX do the same sum on the CPU in chunks of codes, best of several chunk sizes, numbers of threads and
forms, in turn with refvlm, at the K of the last column, because their cost per state does not depend on it; *faster* is
how many times refvlm is faster than the faster of them. Where nothing else runs, times are good to about 10 %; where
something does, they say little. With `--cpu` refvlm is held to that processor's instructions, and the frameworks are
asked to keep to them, as far as they let themselves be.

In *mlp-rows* the tables over 64 observed bits have 64 KiB, more than a first-level cache, so it stays further from its
limit. JAX is as fast with `--cpu haswell` as without; there the arithmetic alone takes a fifth of JAX's time in *mlp*
and a sixth in *mlp-rows*, so no more than 5 and 6 times faster is to be had.
"""
SECTION = """\
## {instructions}

{written}.
{machine}.

Billions of float64 operations per second, by so many workers at once:

{rates}

{works}

{notes}
"""


def table(heads: list[str], rows: list[list[str]]) -> str:
    """In Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [heads, ["---"] + ["--:"] * (len(heads) - 1), *rows])


def digits(value: float) -> str:
    """At least three."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def section(lines: list[dict[str, Any]], written: str) -> str:
    """From the lines of `refvlm bench --json`; written: how and when."""
    rates, works = ([line for line in lines if key in line] for key in ("roofline", "work"))
    heads, *operations = zip(*(rate["roofline"].items() for rate in rates), strict=True)
    roofline = [[row[0][0], *(digits(value) for _, value in row)] for row in operations]
    rows, notes = [], []
    for work in works:
        times = [digits(work["ns_per_state"]), digits(work["limit_ns"]), f"{work['percent_of_limit']:.0f} %"]
        found = [work["peers"].get(name) for name in ("torch", "jax")]
        peers = [digits(p["ns_per_state"]) if p else "" for p in found]
        faster = digits(work["times_faster"]) if work["times_faster"] else ""
        latents = ", ".join({str(p["K"]) for p in found if p})
        rows.append([work["work"], *(str(work[key]) for key in "KHLN"), *times, *peers, faster, latents])
        if work["peak_bytes"]:
            notes.append(f"{work['work']}: {work['seconds']:.2f} s, {work['peak_bytes'] / 2**20:.0f} MiB at the most.")
    verdicts = {True: "All answers agree within 1e-9.", False: "ANSWERS DISAGREE.", None: "No framework compared."}
    notes.append(verdicts[lines[-1]["summary"]["peers_agree"]])
    machine = lines[0]["machine"]
    return SECTION.format(
        instructions=machine["instructions"],
        written=written,
        machine=", ".join(f"{key} {value}" for key, value in machine.items() if value is not None),
        rates=table(["workers", *(str(count) for _, count in heads)], roofline),
        works=table(["work", *"KHLN", "ns", "limit", "of limit", "torch", "jax", "faster", "their K"], rows),
        notes=" ".join(notes),
    )


def page(before: str, new: str) -> str:
    """The page with its other sections as they were before, by name."""
    sections = {each.partition("\n")[0]: each for each in re.split(r"^(?=## )", before, flags=re.MULTILINE)[1:]}
    sections[new.partition("\n")[0]] = new
    return "\n".join([HEAD, *(sections[name].strip() + "\n" for name in sorted(sections))])


if __name__ == "__main__":
    call = [sys.executable, "-m", "refvlm", "bench", "--json", *sys.argv[1:]]
    paths = os.environ | {"PYTHONPATH": str(HERE.parent)}
    done = subprocess.run(call, stdout=subprocess.PIPE, text=True, env=paths, check=False)
    if done.returncode in (0, 1):
        how = f"`{' '.join(['python validation/speed.py', *sys.argv[1:]])}`, {date.today().isoformat()}"
        new = section([json.loads(line) for line in done.stdout.splitlines()], how)
        file = HERE / "speed.md"
        file.write_text(page(file.read_text() if file.exists() else "", new))
    sys.exit(done.returncode)
