"""Whose a file is: what is run must come from the user or from root, and what is written must go where the user says.

A folder is private if nobody else can have put anything into it: it and every folder on the way belong to the user
(the effective one) or to root, and nobody else can write in them. On the way, others may write in a folder that is
sticky, as /tmp is, for there nobody moves or replaces what is not theirs. Symbolic links are followed one by one, under
the same rules, and what lies in the folder obeys them, too. Between this check and the use of what it has found, only
somebody who can write on the way could change anything: exactly those it excludes.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

_PERMISSIONS = hasattr(os, "geteuid")
"""Whether files have an owner and a mode. On Windows they have neither, and folders are taken as they are."""
MOST_LINKS = 40
"""So many symbolic links in a row are followed, as by Linux."""
_LONGEST = 200


def is_foreign(found: os.stat_result) -> bool:
    """Whether it belongs to somebody other than the user and root."""
    return _PERMISSIONS and found.st_uid not in (0, os.geteuid())


def private_folder(path: str) -> str:
    """Where `path` is, with links resolved; it is made, for the user alone, where it is missing.

    Raises OSError, saying what is wrong and where, if it is not private or cannot be made. A relative path is never
    private: whoever made the current directory, say by an archive that was unpacked there, chose what lies in it.
    """
    if not os.path.isabs(path):
        raise OSError(f"got {_quoted(path)}, wanted an absolute path, not something in the current directory")
    if not _PERMISSIONS:
        os.makedirs(path, exist_ok=True)
        return path
    place, ahead, links = "/", path.split("/")[::-1], 0
    _check(place, os.lstat(place), sticky=True)
    while ahead:
        part = ahead.pop()
        if part == "..":
            place = os.path.dirname(place)
        elif part not in ("", "."):
            here = os.path.join(place, part)
            found = _found_or_made(here)
            _check(here, found, sticky=True)
            if stat.S_ISLNK(found.st_mode):
                target, links = os.readlink(here), links + 1
                if links > MOST_LINKS:
                    raise OSError(f"{_quoted(path)}: {os.strerror(errno.ELOOP)}")
                place = "/" if target.startswith("/") else place
                ahead.extend(target.split("/")[::-1])
            elif stat.S_ISDIR(found.st_mode):
                place = here
            else:
                raise NotADirectoryError(f"{_quoted(here)} is a file, not a directory")
    _check(place, os.lstat(place), sticky=False)
    _check_contents(place)
    return place


def _found_or_made(here: str) -> os.stat_result:
    """What is there, or the folder that is made; if somebody else is faster, theirs is found, and judged."""
    try:
        try:
            return os.lstat(here)
        except FileNotFoundError:
            with suppress(FileExistsError):
                os.mkdir(here, 0o700)
            return os.lstat(here)
    except OSError as error:
        raise type(error)(f"{_quoted(here)}: {error.strerror}") from None


def _check_contents(folder: str) -> None:
    """What lies in a folder can date from when others could write in it. The user's own processes may be at work."""
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                found = entry.stat(follow_symlinks=False)
                _check(entry.path, found, sticky=False)
                if stat.S_ISLNK(found.st_mode):
                    raise PermissionError(f"{_quoted(entry.path)} is a symbolic link (delete it)")


def _check(path: str, found: os.stat_result, *, sticky: bool) -> None:
    """Refuse what is another's, or what others can write; sticky: but for new entries in a sticky folder.

    A file or link with a second name may be one of the user's that another put here: links need no right to the file.
    """
    if is_foreign(found):
        raise PermissionError(f"{_quoted(path)} belongs to another user, number {found.st_uid}")
    harmless = stat.S_ISLNK(found.st_mode) or (sticky and found.st_mode & stat.S_ISVTX)
    if found.st_mode & 0o022 and not harmless:
        raise PermissionError(f"others can write to {_quoted(path)} (mend it by chmod go-w {_quoted(path)})")
    if not stat.S_ISDIR(found.st_mode) and found.st_nlink > 1:
        raise PermissionError(f"{_quoted(path)} has another name elsewhere, a hard link (delete it)")


def _quoted(path: str) -> str:
    """A path as one printable piece of a message, of bounded length."""
    text = repr(path)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]}...{text[-_LONGEST // 2 :]}"
