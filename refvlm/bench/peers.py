"""The same sum in PyTorch and JAX, for comparison: float64, on the CPU, the codes in chunks.

For a chunk of codes, with a the logits of a state z,

    log p(x_n, z) = z . prior logits - sum softplus(prior logits) - sum over i of softplus(a_i) + x_n . a

and log p(x_n) is the logsumexp over the codes of a chunk, then over the chunks. A peer offers this as several programs,
of different chunk sizes and forms, of which the fastest counts. The frameworks are imported when a peer is made, not
before, and keep their settings for the rest of the process.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from typing import Any, Protocol

from .works import Answer, Problem, Work

CHUNKS = (10, 12, 14, 16)
"""Bits of the code that are enumerated at a time."""

_PER_COLUMN = 5e-9
"""A peer's seconds for each state and each of its K + H + L + N columns, on a core of a server."""
_BACKWARD = 3.0
"""A peer's time with the gradient over that without."""
_COMPILATION = 0.5
"""Seconds more for a peer's code run of a program, allocation included."""

Program = tuple[str, Callable[[], Answer]]
"""What tells it from the peer's others, and the program."""


class Peer(Protocol):
    """A framework."""

    def programs(self, inputs: Problem, gradient: bool, chunks: Iterable[int]) -> Iterator[Program]:
        """Programs for log p(x), with `gradient` also for that of its sum; chunks: their sizes in bits."""


def chunk_sizes(chunks: Iterable[int], latents: int) -> list[int]:
    """The chunk sizes that K bits have room for."""
    return sorted({min(bits, latents) for bits in chunks})


def predict_peer(work: Work, programs: int, runs: int) -> float:
    """Seconds that `runs` runs of a peer's `programs` programs take: a guess, good to a factor of two."""
    latents = work.peer_latents or 0
    columns = latents + work.hidden + work.observed + work.rows
    one = _PER_COLUMN * columns * 2.0**latents * (_BACKWARD if work.gradient else 1.0)
    return runs * one + _COMPILATION * programs


class Torch:
    """PyTorch, operation by operation: on `workers` threads, and on one, which is faster where chunks are small."""

    def __init__(self, workers: int) -> None:
        self._torch: Any = import_module("torch")
        self._threads = sorted({1, workers})

    def programs(self, inputs: Problem, gradient: bool, chunks: Iterable[int]) -> Iterator[Program]:
        """Every chunk size on every number of threads."""
        for bits in chunk_sizes(chunks, len(inputs.prior_logits)):
            for threads in self._threads:
                yield f"chunks of 2**{bits}, threads {threads}", self._program(inputs, gradient, bits, threads)

    def _program(self, inputs: Problem, gradient: bool, bits: int, threads: int) -> Callable[[], Answer]:
        torch, latents = self._torch, len(inputs.prior_logits)
        softplus = torch.nn.functional.softplus
        x, places = torch.tensor(inputs.x, dtype=torch.float64), torch.arange(latents)

        def block(code: int, logits: Any, layers: Any) -> Any:
            z = ((torch.arange(code, code + (1 << bits))[:, None] >> places) & 1).to(torch.float64)
            a = z
            for d, (weights, biases) in enumerate(layers):
                a = torch.addmm(biases, torch.tanh(a) if d > 0 else a, weights)
            joint = z @ logits - softplus(logits).sum() - softplus(a).sum(1)
            return torch.logsumexp(joint[:, None] + a @ x.T, 0)

        def run() -> Answer:
            torch.set_num_threads(threads)
            leaves = [torch.tensor(p, requires_grad=gradient) for p in _parameters(inputs)]
            layers = list(zip(leaves[1::2], leaves[2::2], strict=True))
            with torch.set_grad_enabled(gradient):
                parts = [block(code, leaves[0], layers) for code in range(0, 1 << latents, 1 << bits)]
                log_px = torch.logsumexp(torch.stack(parts), 0)
                if gradient:
                    log_px.sum().backward()
            return Answer(log_px.detach().numpy(), [leaf.grad.numpy() for leaf in leaves] if gradient else [])

        return run


class JAX:
    """JAX, compiled: the chunks in one program by lax.map, and one after the other from Python."""

    def __init__(self, workers: int) -> None:
        os.environ["NPROC"] = str(workers)  # where XLA looks for the number of its threads, once
        self._jax: Any = import_module("jax")
        self._jax.config.update("jax_platforms", "cpu")
        self._jax.config.update("jax_enable_x64", True)

    def programs(self, inputs: Problem, gradient: bool, chunks: Iterable[int]) -> Iterator[Program]:
        """Every chunk size in both forms; with the gradient by lax.map alone."""
        for bits in chunk_sizes(chunks, len(inputs.prior_logits)):
            yield f"chunks of 2**{bits}, lax.map", self._mapped(inputs, gradient, bits)
            if not gradient:
                yield f"chunks of 2**{bits}, one by one", self._looped(inputs, bits)

    def _block(self, parameters: Any, x: Any, code: Any, bits: int) -> Any:
        """The logsumexp over a chunk, (N,)."""
        jax, numpy = self._jax, self._jax.numpy
        logits, weights, biases = parameters[0], parameters[1::2], parameters[2::2]
        z = (((code + numpy.arange(1 << bits))[:, None] >> numpy.arange(len(logits))) & 1).astype(numpy.float64)
        a = z
        for d in range(len(weights)):
            a = (numpy.tanh(a) if d > 0 else a) @ weights[d] + biases[d]
        joint = z @ logits - jax.nn.softplus(logits).sum() - jax.nn.softplus(a).sum(1)
        return jax.nn.logsumexp(joint[:, None] + a @ x.T, axis=0)

    def _mapped(self, inputs: Problem, gradient: bool, bits: int) -> Callable[[], Answer]:
        jax, numpy = self._jax, self._jax.numpy
        parameters, x = [numpy.asarray(p) for p in _parameters(inputs)], numpy.asarray(inputs.x, dtype=numpy.float64)
        codes = numpy.arange(0, 1 << len(inputs.prior_logits), 1 << bits)

        def total(parameters: Any, x: Any) -> Any:
            parts = jax.lax.map(lambda code: self._block(parameters, x, code, bits), codes)
            log_px = jax.nn.logsumexp(parts, axis=0)
            return log_px.sum(), log_px

        if gradient:
            both = jax.jit(jax.value_and_grad(total, has_aux=True))

            def run() -> Answer:
                (_, log_px), slopes = jax.block_until_ready(both(parameters, x))
                return Answer(_array(log_px), [_array(slope) for slope in slopes])

            return run
        value = jax.jit(lambda parameters, x: total(parameters, x)[1])
        return lambda: Answer(_array(jax.block_until_ready(value(parameters, x))), [])

    def _looped(self, inputs: Problem, bits: int) -> Callable[[], Answer]:
        jax, numpy = self._jax, self._jax.numpy
        parameters, x = [numpy.asarray(p) for p in _parameters(inputs)], numpy.asarray(inputs.x, dtype=numpy.float64)
        codes = [numpy.asarray(code) for code in range(0, 1 << len(inputs.prior_logits), 1 << bits)]
        block = jax.jit(lambda parameters, x, code: self._block(parameters, x, code, bits))
        merge = jax.jit(lambda parts: jax.nn.logsumexp(numpy.stack(parts), axis=0))

        def run() -> Answer:
            parts = [block(parameters, x, code) for code in codes]
            return Answer(_array(jax.block_until_ready(merge(parts))), [])

        return run


MAKERS: dict[str, Callable[[int], Peer]] = {"torch": Torch, "jax": JAX}
"""A peer on so many workers, by the name of its package. ImportError or OSError where it cannot be had."""


def _parameters(inputs: Problem) -> list[Any]:
    """The prior's logits, then weights and biases, layer by layer."""
    return [inputs.prior_logits, *(part for layer in inputs.layers for part in layer)]


def _array(value: Any) -> Any:
    """As a NumPy array."""
    return value.__array__()
