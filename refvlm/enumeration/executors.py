"""Executors by name, for the command line: `threads:4`, `processes:4`, `dask://HOST:PORT`, `mpi`.

Dask and mpi4py are imported where their names are asked for, and nowhere else.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any, NamedTuple

from .processes import Processes
from .remote import ExecutorError, check_identity, identity

FORMS = "threads[:N], processes[:N], dask://HOST:PORT or mpi"
_PATIENCE = 10
"""Seconds to wait for a scheduler."""


class Wanted(NamedTuple):
    """kind: threads, processes, dask or mpi. workers: None where it was not said. address: of a scheduler."""

    kind: str
    workers: int | None = None
    address: str = ""


def parse(text: str) -> Wanted:
    """Raises ValueError for what is no name of an executor."""
    match = re.fullmatch(
        r"(threads|processes)(?::(0*[1-9][0-9]{0,5}))?|(mpi)|dask://([^\s/:]+|\[[0-9a-fA-F:]+\]):([0-9]{1,5})", text
    )
    if match is None:
        raise ValueError(f"executor: got {text[:60]!r}, wanted {FORMS}")
    kind, workers, mpi, host, port = match.groups()
    if host is not None:
        return Wanted("dask", None, f"{host}:{port}")
    return Wanted(mpi or kind, None if workers is None else int(workers))


@contextmanager
def opened(wanted: Wanted) -> Iterator[Executor | None]:
    """The executor, None for threads, which `workers` says; ended with the block, at once where it raises.

    Raises ValueError where its package is not installed, ConnectionError where nobody answers, and ExecutorError where
    a worker would give other bits.
    """
    with ExitStack() as stack:
        if wanted.kind == "threads":
            yield None
        elif wanted.kind == "processes":
            yield stack.enter_context(Processes(wanted.workers))
        elif wanted.kind == "dask":
            yield _dask(wanted.address, stack)
        else:
            yield _mpi(stack)


def _dask(address: str, stack: ExitStack) -> Executor:
    distributed = _package("distributed", "dask")
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # a lost connection is ours to report, on one line
    try:
        client = stack.enter_context(distributed.Client(address, timeout=_PATIENCE, set_as_default=False))
    except (OSError, TimeoutError, ValueError) as error:
        raise ConnectionError(
            f"executor: no scheduler of Dask answers at {address} ({type(error).__name__}); wanted the address that "
            "`dask scheduler` prints"
        ) from None
    if not client.nthreads():
        raise ConnectionError(f"executor: the scheduler at {address} has no workers; wanted at least one `dask worker`")
    for worker, refusal in client.run(refused_because, identity()).items():
        if refusal is not None:
            raise ExecutorError(f"{refusal} (at {worker})")
    executor: Executor = client.get_executor(pure=False)
    return executor


def _mpi(stack: ExitStack) -> Executor:
    futures = _package("mpi4py.futures", "mpi")
    mpi = import_module("mpi4py.MPI")
    if mpi.COMM_WORLD.Get_size() < 2:
        raise ValueError(
            "executor: got mpi in a single process, wanted mpiexec -n RANKS python -m mpi4py.futures -m refvlm ..., "
            "with a rank for the caller and one for each worker"
        )
    executor: Executor = stack.enter_context(futures.MPIPoolExecutor())
    return executor


def refused_because(sender: Any) -> str | None:
    """In a worker: why it would give other bits than `sender`, if it would."""
    try:
        check_identity(sender)
    except ExecutorError as error:
        return str(error)
    return None


def _package(module: str, extra: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        raise ValueError(
            f"executor: {module.partition('.')[0]} is not installed; pip install 'refvlm[{extra}]', or use processes"
        ) from None
