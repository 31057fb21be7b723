"""Code planted where compiled kernels are looked for, and whether it runs: `python validation/planted.py`.

Numba keeps compiled code in pickles, and a pickle runs whatever its author wants. Each way leaves one, which makes a
file when it is run, where the environment, the current directory or another user can lead. Then a whole process
computes with a kernel. Expected: the right number, nothing planted has run, and what is wrong with the folder is told.
The same process with the check taken out must run what was planted, or the way would prove nothing. Last come folders
of the user's own, and of root, which must be loaded from. `--only PART` runs the ways with PART in their names. Ways
that need another user are left out unless root, who can give files away, runs this.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from common import AGREES, DISAGREES
from numba.core import caching, config

TREE = Path(__file__).resolve().parent.parent
OTHER = 65534
"""A user who is neither root nor us."""

PROGRAM = """
import json
import numpy as np
from refvlm.enumeration import kernels
kernel = kernels.marginal.finish
value = {call}
hits, problem = sum(kernel.compiled.stats.cache_hits.values()), kernels.compiling.cache_problem()
print(json.dumps({{"value": float(value[0]).hex(), "hits": hits, "problem": problem}}))
"""
HERE = "kernel(np.array([3.0]), np.array([1.5]))"
IN_A_POOL = (
    "__import__('concurrent.futures').futures.ProcessPoolExecutor("
    "1, __import__('multiprocessing').get_context('spawn')).submit(kernel, np.array([3.0]), np.array([1.5])).result()"
)

UNJUDGED = """
import os, refvlm.ownership
refvlm.ownership.private_folder = lambda path: os.makedirs(path, exist_ok=True) or path
"""
"""The check taken out."""
SEARCHING = """
from numba.core.caching import FunctionCache
from refvlm.enumeration.kernels import compiling
compiling._ForgivingCache = FunctionCache
"""
"""Numba's own search for a folder put back."""
HOMELESS = "import os; os.getuid = lambda: 4004004004\n"
"""No entry in the list of users, as where containers run under any number."""


class Payload:
    """Runs when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"open({str(self._mark)!r}, 'w').close()",)


class Start(NamedTuple):
    """How a process is started, and what it is to say."""

    environment: Mapping[str, str]
    said: str = ""
    prelude: str = ""
    call: str = HERE
    tree: Path = TREE
    without: str = UNJUDGED


class Ground:
    """An empty folder to plant in. `honest`: a cache to copy from; `mark`: what a payload leaves; `home`, `here`."""

    def __init__(self, folder: Path, honest: Path) -> None:
        self.folder, self.honest, self.mark = folder, honest, folder / "mark"
        self.home, self.here = folder / "home", folder / "here"
        self.home.mkdir()
        self.here.mkdir()

    def plant(self, name: str) -> Path:
        """A cache folder, planted in: every index in it is a payload."""
        base = self.folder / name
        shutil.copytree(self.honest, base)
        for index in base.rglob("*.nbi"):
            index.write_bytes(pickle.dumps(Payload(self.mark)))
        return base

    def plant_for_numba(self, sources: str) -> Path:
        """The same for Numba's own search, of the kernels in this folder; what XDG_CACHE_HOME is to be."""
        digest = hashlib.sha1(sources.encode()).hexdigest()
        kept(self.plant("planted")).rename(_made(self.folder / "system" / "numba") / f"kernels_{digest}")
        return self.folder / "system"


def kept(base: Path) -> Path:
    """The folder in a cache folder in which the files are."""
    return next(base.rglob("*.nbi")).parent


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _given_away(base: Path) -> Path:
    for path in (base, *base.rglob("*")):
        os.lchown(path, OTHER, OTHER)
    return base


def _open(path: Path, mode: int) -> Path:
    path.chmod(mode)
    return path


def _cache(base: Path, said: str = "") -> Start:
    return Start({"REFVLM_CACHE_DIR": str(base)}, said)


def another_users_folder(ground: Ground) -> Start:
    return _cache(_given_away(ground.plant("cache")), "belongs to another user, number 65534")


def another_users_folder_in_ours(ground: Ground) -> Start:
    base = ground.plant("cache")
    _given_away(kept(base))
    return _cache(base, "belongs to another user")


def another_users_folder_above_ours(ground: Ground) -> Start:
    base = ground.plant("theirs/cache")
    os.chown(base.parent, OTHER, OTHER)
    return _cache(base, "belongs to another user")


def another_users_folder_in_a_sticky_one(ground: Ground) -> Start:
    base = ground.plant("tmp/cache")
    _open(base.parent, 0o1777)
    return _cache(_given_away(base), "belongs to another user")


def another_users_file_in_ours(ground: Ground) -> Start:
    base = ground.plant("cache")
    os.chown(next(base.rglob("*.nbi")), OTHER, OTHER)
    return _cache(base, "belongs to another user")


def a_link_to_another_users_folder(ground: Ground) -> Start:
    (ground.folder / "link").symlink_to(_given_away(ground.plant("cache")))
    return _cache(ground.folder / "link", "belongs to another user")


def another_users_link_to_our_folder(ground: Ground) -> Start:
    link = _open(_made(ground.folder / "tmp"), 0o1777) / "cache"
    link.symlink_to(ground.plant("cache"))
    os.lchown(link, OTHER, OTHER)
    return _cache(link, "belongs to another user")


def a_folder_that_all_can_write_to(ground: Ground) -> Start:
    base = ground.plant("cache")
    _open(kept(base), 0o777)
    return _cache(base, "others can write to")


def a_sticky_folder_that_all_can_write_to(ground: Ground) -> Start:
    base = ground.plant("cache")
    _open(kept(base), 0o1777)
    return _cache(base, "others can write to")


def a_folder_that_a_group_can_write_to(ground: Ground) -> Start:
    base = ground.plant("cache")
    _open(kept(base), 0o770)
    return _cache(base, "chmod go-w")


def below_a_folder_that_all_can_write_to(ground: Ground) -> Start:
    base = ground.plant("open/mine/cache")
    _open(base.parent.parent, 0o777)
    return _cache(base, "others can write to")


def a_link_to_a_folder_that_all_can_write_to(ground: Ground) -> Start:
    (ground.folder / "link").symlink_to(_open(ground.plant("cache"), 0o777))
    return _cache(ground.folder / "link", "others can write to")


def a_link_on_the_way_through_such_a_folder(ground: Ground) -> Start:
    base = ground.plant("open/cache")
    _open(base.parent, 0o777)
    (ground.folder / "link").symlink_to("open")
    return _cache(ground.folder / "link" / "cache", "others can write to")


def up_again_from_such_a_folder(ground: Ground) -> Start:
    base = ground.plant("open/cache")
    _open(base.parent, 0o777)
    return _cache(_made(base.parent / "mine") / ".." / "cache", "others can write to")


def a_file_that_all_can_write_to(ground: Ground) -> Start:
    base = ground.plant("cache")
    _open(next(base.rglob("*.nbi")), 0o666)
    return _cache(base, "others can write to")


def a_file_that_a_group_can_write_to(ground: Ground) -> Start:
    base = ground.plant("cache")
    _open(next(base.rglob("*.nbi")), 0o660)
    return _cache(base, "chmod go-w")


def a_hard_link(ground: Ground) -> Start:
    base = ground.plant("cache")
    os.link(next(base.rglob("*.nbi")), ground.folder / "elsewhere")
    return _cache(base, "a hard link")


def a_link_in_our_folder(ground: Ground) -> Start:
    base = ground.plant("cache")
    index = next(base.rglob("*.nbi"))
    index.symlink_to(index.rename(ground.folder / "elsewhere"))
    return _cache(base, "is a symbolic link")


def a_relative_folder(ground: Ground) -> Start:
    ground.plant("here/cache")
    return Start({"REFVLM_CACHE_DIR": "cache"}, "wanted an absolute path")


def a_tilde_that_no_shell_has_seen(ground: Ground) -> Start:
    ground.plant("here/~/cache")
    return Start({"REFVLM_CACHE_DIR": "~/cache"}, "wanted an absolute path")


def no_home_and_a_folder_called_tilde(ground: Ground) -> Start:
    ground.plant("here/~/.cache/refvlm")
    return Start({"HOME": ""}, "wanted an absolute path", "import os; del os.environ['HOME']\n" + HOMELESS)


def a_relative_home(ground: Ground) -> Start:
    ground.plant("here/.cache/refvlm")
    return Start({"HOME": "."}, "wanted an absolute path")


def another_users_home(ground: Ground) -> Start:
    ground.plant("home/.cache/refvlm")
    return Start({"HOME": str(_given_away(ground.home))}, "belongs to another user")


def another_users_xdg_cache_home(ground: Ground) -> Start:
    ground.plant("system/refvlm")
    return Start({"XDG_CACHE_HOME": str(_given_away(ground.folder / "system"))}, "belongs to another user")


def an_xdg_cache_home_that_all_can_write_to(ground: Ground) -> Start:
    base = ground.plant("system/refvlm")
    return Start({"XDG_CACHE_HOME": str(_open(base.parent, 0o777))}, "others can write to")


def a_relative_xdg_cache_home(ground: Ground) -> Start:
    ground.plant("here/system/refvlm")
    return Start({"XDG_CACHE_HOME": "system"}, without="import os; os.path.isabs = lambda path: True\n" + UNJUDGED)


def another_users_numba_cache_dir(ground: Ground) -> Start:
    return Start({"NUMBA_CACHE_DIR": str(_given_away(ground.plant("cache")))}, "belongs to another user")


def a_numba_cache_dir_that_all_can_write_to(ground: Ground) -> Start:
    return Start({"NUMBA_CACHE_DIR": str(_open(ground.plant("cache"), 0o777))}, "others can write to")


def numbas_search_by_its_variable(ground: Ground) -> Start:
    system = ground.plant_for_numba(str(TREE / "refvlm" / "enumeration" / "kernels"))
    environment = {"XDG_CACHE_HOME": str(_open(system, 0o777)), "REFVLM_CACHE_DIR": str(ground.folder / "own")}
    return Start(environment | {"NUMBA_CACHE_LOCATOR_CLASSES": "UserWideCacheLocator"}, without=SEARCHING)


def numbas_search_by_a_file_in_the_current_directory(ground: Ground) -> Start:
    """JSON is YAML; a stand-in for its reader, which not everybody has."""
    start = numbas_search_by_its_variable(ground)
    (ground.here / ".numba_config.yaml").write_text('{"cache_locator_classes": "UserWideCacheLocator"}')
    reader = "import json, sys, types; sys.modules['yaml'] = types.SimpleNamespace(safe_load=json.load)\n"
    environment = {name: value for name, value in start.environment.items() if not name.startswith("NUMBA_")}
    return start._replace(environment=environment, prelude=reader)


def numbas_search_for_what_is_in_a_zip_file(ground: Ground) -> Start:
    tree = ground.folder / "refvlm.zip"
    with zipfile.ZipFile(tree, "w") as archive:
        for path in (TREE / "refvlm").rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                archive.write(path, path.relative_to(TREE))
    system = ground.plant_for_numba(str(tree / "refvlm" / "enumeration" / "kernels"))
    environment = {"XDG_CACHE_HOME": str(_open(system, 0o777)), "REFVLM_CACHE_DIR": str(ground.folder / "own")}
    return Start(environment, tree=tree, without=SEARCHING)


def a_worker_of_a_pool(ground: Ground) -> Start:
    base = _open(ground.plant("cache"), 0o777)
    return _cache(base, "others can write to")._replace(call=IN_A_POOL)


WAYS: tuple[Callable[[Ground], Start], ...] = (
    another_users_folder, another_users_folder_in_ours, another_users_folder_above_ours,
    another_users_folder_in_a_sticky_one, another_users_file_in_ours, a_link_to_another_users_folder,
    another_users_link_to_our_folder, another_users_home, another_users_xdg_cache_home, another_users_numba_cache_dir,
    a_folder_that_all_can_write_to, a_sticky_folder_that_all_can_write_to, a_folder_that_a_group_can_write_to,
    below_a_folder_that_all_can_write_to, a_link_to_a_folder_that_all_can_write_to,
    a_link_on_the_way_through_such_a_folder, up_again_from_such_a_folder, an_xdg_cache_home_that_all_can_write_to,
    a_numba_cache_dir_that_all_can_write_to, a_worker_of_a_pool,
    a_file_that_all_can_write_to, a_file_that_a_group_can_write_to, a_hard_link, a_link_in_our_folder,
    a_relative_folder, a_tilde_that_no_shell_has_seen, no_home_and_a_folder_called_tilde, a_relative_home,
    a_relative_xdg_cache_home, numbas_search_by_its_variable, numbas_search_by_a_file_in_the_current_directory,
    numbas_search_for_what_is_in_a_zip_file,
)  # fmt: skip


CHECKED_ALONE: tuple[Callable[[Ground], Start], ...] = (a_worker_of_a_pool,)
"""Ways without the other process: none of a pool is reached by the change, and an older Numba has not all searches."""
if not (hasattr(config, "CACHE_LOCATOR_CLASSES") and hasattr(caching, "ZipCacheLocator")):
    CHECKED_ALONE += tuple(way for way in WAYS if way.__name__.startswith("numbas"))


def our_folder(ground: Ground) -> Start:
    return _cache(shutil.copytree(ground.honest, ground.folder / "cache"))


def our_folder_in_a_sticky_one(ground: Ground) -> Start:
    return _cache(shutil.copytree(ground.honest, _open(_made(ground.folder / "tmp"), 0o1777) / "cache"))


def our_folder_through_our_link(ground: Ground) -> Start:
    (ground.folder / "link").symlink_to(shutil.copytree(ground.honest, ground.folder / "cache"))
    return _cache(ground.folder / "link")


def our_folder_that_all_can_read(ground: Ground) -> Start:
    base = shutil.copytree(ground.honest, ground.folder / "cache")
    for path in (base, *base.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o444)
    return _cache(base)


def our_folder_whatever_search_numba_is_told_of(ground: Ground) -> Start:
    start = our_folder(ground)
    return start._replace(environment={**start.environment, "NUMBA_CACHE_LOCATOR_CLASSES": "nowhere.Nothing"})


def roots_folder_in_another_users_process(ground: Ground) -> Start:
    return our_folder(ground)._replace(prelude=f"import os; os.geteuid = lambda: {OTHER}\n")


OWN: tuple[Callable[[Ground], Start], ...] = (
    our_folder, our_folder_in_a_sticky_one, our_folder_through_our_link, our_folder_that_all_can_read,
    our_folder_whatever_search_numba_is_told_of, roots_folder_in_another_users_process,
)  # fmt: skip


def needs_root(way: Callable[..., Any]) -> bool:
    """Whether it gives files to another user."""
    return "another_users" in way.__name__


def named(way: Callable[..., Any]) -> str:
    """A way in words."""
    words = way.__name__.replace("_", " ")
    return (
        words.replace("users", "user's")
        .replace("roots", "root's")
        .replace("numbas", "numba's")
        .replace("numba", "Numba")
    )


def ran(ground: Ground, start: Start, control: str = "") -> dict[str, Any]:
    """What a whole process started so says, in the current directory `here`; control: a change to it, made first."""
    environment = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT") if name in os.environ}
    environment |= {"HOME": str(ground.home), "PYTHONPATH": str(start.tree), **start.environment}
    program = start.prelude + control + PROGRAM.format(call=start.call)
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, cwd=ground.here, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AssertionError(f"ended with {done.returncode}: {done.stderr[-2000:]}")
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def kept_once(folder: Path) -> tuple[Path, str]:
    """An honest cache to copy from, and the right number."""
    said = ran(Ground(_made(folder / "first"), folder), Start({"REFVLM_CACHE_DIR": str(folder / "honest")}))
    assert said["problem"] is None, said["problem"]
    return folder / "honest", str(said["value"])


def outcome(way: Callable[[Ground], Start], folder: Path, honest: tuple[Path, str], *, checked: bool = True) -> str:
    """What comes of a way in this empty folder: "kept out", "runs", "loaded", or else what went wrong."""
    ground = Ground(folder, honest[0])
    start = way(ground)
    said = ran(ground, start, "" if checked else start.without)
    if ground.mark.exists():
        return "runs"
    told = said["problem"] or ""
    if said["value"] != honest[1] or start.said not in told or bool(start.said) != bool(told):
        return repr(said)
    return "loaded" if said["hits"] else "kept out"


def main() -> int:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="PART")
    part, count, wrong = parser.parse_args().only, 0, 0
    print(f"{'where':48}  {'the check':9}  {'expected':8}  {'got':8}  verdict")
    with tempfile.TemporaryDirectory() as name:
        honest = kept_once(Path(name).resolve())
        for way, checked, expected in processes():
            if part not in named(way):
                continue
            if needs_root(way) and os.geteuid() != 0:
                print(f"{named(way):48}  left out: only root can give files to another user")
                continue
            count += 1
            folder = _made(honest[0].parent / str(count))
            got = outcome(way, folder, honest, checked=checked)
            wrong += got != expected
            verdict = "agrees" if got == expected else "DISAGREES"
            print(
                f"{named(way):48}  {'in' if checked else 'taken out':9}  {expected:8}  {got:8}  {verdict}", flush=True
            )
    print(f"{count} processes, {wrong} disagree")
    return DISAGREES if wrong else AGREES


def processes() -> Iterator[tuple[Callable[[Ground], Start], bool, str]]:
    """Each way, whether the check is in, and what is expected."""
    for way in WAYS:
        yield way, True, "kept out"
        if way not in CHECKED_ALONE:
            yield way, False, "runs"
    for way in OWN:
        yield way, True, "loaded"


if __name__ == "__main__":
    sys.exit(main())
