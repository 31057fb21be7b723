"""Files: those written are whole or not there, since they are moved into their place; those read are ordinary ones."""

from __future__ import annotations

import errno
import io
import os
import platform
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, BinaryIO

from .interrupts import finishing
from .ownership import MOST_LINKS, is_foreign

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows, where nobody can remove a file that another holds open
    fcntl = None

_HOST = f"{zlib.crc32(platform.node().encode()) & 0xFFFF:04x}"
"""In the names of this machine's temporary files: on a shared disk a lock may be seen by its own machine alone."""


def open_file(path: str | os.PathLike[str]) -> io.BufferedReader:
    """An ordinary file, to read from any place in it.

    Raises OSError where there is none: a pipe could keep the reader waiting for ever, and a device have no end.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    kind = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(kind):
        os.close(descriptor)
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
        raise OSError(f"{os.fspath(path)}: is no ordinary file; wanted the name of a file to read")
    return os.fdopen(descriptor, "rb")


@contextmanager
def atomic_write(path: str | os.PathLike[str], mode: int = 0o666) -> Iterator[BinaryIO]:
    """A binary file to write to, which takes the name `path` only when the block ends without an exception.

    Until then, and for ever if the block raises (KeyboardInterrupt included), whatever stood at `path` still
    stands there, and nothing else is left behind; what a killed process had to leave, the next one to write there
    removes. The contents reach the disk before the name does. A new file gets the permissions of `mode` that the
    umask allows, a replaced one keeps its own; a symbolic link is followed, but not another user's, who may have
    guessed a name that we write to.

    Raises OSError, naming the path and what to do, where `path` is a directory or cannot be written.
    """
    target = _target(path)
    _remove_abandoned(target)
    with finishing(), ExitStack() as held:
        try:
            descriptor, temporary = _temporary(target, held, mode)
        except OSError as error:
            raise _refusal(path, error) from None
        try:
            with os.fdopen(descriptor, "wb") as file:
                with suppress(FileNotFoundError):
                    os.chmod(descriptor if os.chmod in os.supports_fd else temporary, os.stat(target).st_mode & 0o777)
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException as error:
            with suppress(OSError):
                os.unlink(temporary)
            if isinstance(error, OSError) and error.filename in (None, temporary):  # not of what the block has read
                raise _refusal(path, error) from None
            raise


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise now the OSError that `atomic_write(path)` would raise, so that no long work ends in it."""
    target = _target(path)
    _remove_abandoned(target)
    try:
        with ExitStack() as held:
            descriptor, probe = _temporary(target, held)
            os.close(descriptor)
            os.unlink(probe)
    except OSError as error:
        raise _refusal(path, error) from None


def _temporary(target: str, held: ExitStack, mode: int = 0o666) -> tuple[int, str]:
    """A new file beside `target`, and its name; locked, where the system can, until `held` ends."""
    while True:
        name = f"{target}.{_HOST}{os.urandom(4).hex()}.tmp"
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
        if fcntl is None:
            return descriptor, name
        lock = os.dup(descriptor)
        held.callback(os.close, lock)
        with suppress(OSError):  # a file system without locks, where nobody can take it for abandoned either
            fcntl.flock(lock, fcntl.LOCK_EX)
        if _is_at(lock, name):
            return descriptor, name
        os.close(descriptor)  # somebody was faster with the lock, and has removed it


def _remove_abandoned(target: str) -> None:
    """Remove what killed processes of this machine have left beside `target`: a file whose lock can be had."""
    if fcntl is None:
        return
    folder, base = os.path.split(target)
    ours = re.compile(re.escape(base) + rf"\.{_HOST}[0-9a-f]{{8}}\.tmp")
    with suppress(OSError), os.scandir(folder) as entries:
        for name in [entry.path for entry in entries if ours.fullmatch(entry.name)]:
            with suppress(OSError):
                descriptor = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if _is_at(descriptor, name):  # else it has become the file that it was written for
                        os.unlink(name)
                finally:
                    os.close(descriptor)


def _is_at(descriptor: int, name: str) -> bool:
    """Whether the file that is open has this name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(name))
    except FileNotFoundError:
        return False


def _target(path: str | os.PathLike[str]) -> str:
    """Where the file will be, with symbolic links resolved; refused if something other than a file is there."""
    target, links = os.fspath(path), 0
    while os.path.islink(target) and links < MOST_LINKS:
        if is_foreign(os.lstat(target)):
            raise PermissionError(f"{os.fspath(path)}: is a symbolic link of another user; write elsewhere")
        target, links = os.path.join(os.path.dirname(target), os.readlink(target)), links + 1
    target = os.path.realpath(target)
    if os.path.exists(target) and not os.path.isfile(target):
        kind = "a directory" if os.path.isdir(target) else "no ordinary file"
        error = IsADirectoryError if os.path.isdir(target) else OSError
        raise error(f"{os.fspath(path)}: is {kind}; wanted the name of a file to write")
    return target


def _refusal(path: str | os.PathLike[str], error: OSError) -> OSError:
    """The same kind of error, with the path the caller knows and a way out."""
    folder = os.path.dirname(os.path.realpath(path))
    if isinstance(error, NotADirectoryError):
        remedy = f"a part of {folder} is a file, not a directory; write elsewhere"
    elif not os.path.isdir(folder):
        remedy = f"there is no directory {folder}; make it first, or write elsewhere"
    elif isinstance(error, PermissionError):
        remedy = f"no permission to write in {folder}; write elsewhere"
    elif error.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = f"{error.strerror}; make room there, or write elsewhere"
    else:
        remedy = f"{error.strerror or error}; write elsewhere"
    return type(error)(f"{os.fspath(path)}: cannot be written: {remedy}")
