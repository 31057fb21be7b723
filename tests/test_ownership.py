"""A folder is private if nobody but the user and root can have put anything into it."""

import contextlib
import os
import stat
from pathlib import Path

import pytest

from refvlm import ownership
from refvlm.ownership import private_folder

pytestmark = pytest.mark.skipif(os.name != "posix", reason="owners and modes are POSIX")
OTHER = 65534


@pytest.fixture
def given_away(monkeypatch):
    """Makes a path another user's: by its owner, or, as only root can give away, by who we are said to be."""

    def give(path):
        if os.geteuid() == 0:
            os.lchown(path, OTHER, OTHER)
        else:
            monkeypatch.setattr(os, "geteuid", lambda: OTHER)

    return give


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o077])
def test_folders_are_made_for_the_user_alone_whatever_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        made = Path(private_folder(str(tmp_path / "a" / "b")))
    finally:
        os.umask(before)
    assert made == tmp_path / "a" / "b"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (made, made.parent)] == [0o700, 0o700]
    assert private_folder(str(made)) == str(made)


def test_links_and_steps_back_are_resolved(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    (tmp_path / "one" / "back").symlink_to("../two/./missing")
    (tmp_path / "whole").symlink_to(tmp_path / "one" / "back")
    assert private_folder(f"{tmp_path}//whole/../missing/deeper/") == str(tmp_path / "two" / "missing" / "deeper")


def test_links_in_a_circle_end(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        private_folder(str(tmp_path / "a" / "c"))


def test_whoever_is_faster_is_judged(tmp_path, monkeypatch):
    """Between the look and the making of a folder, another makes it, so that others can write to it."""
    make = os.mkdir

    def slow(path, mode):
        if path.endswith("new"):
            make(path)
            os.chmod(path, 0o777)
        make(path, mode)

    monkeypatch.setattr(os, "mkdir", slow)
    with pytest.raises(PermissionError, match="others can write to"):
        private_folder(str(tmp_path / "new" / "deeper"))


def test_the_effective_user_counts(tmp_path, monkeypatch, given_away):
    (tmp_path / "cache").mkdir()
    given_away(tmp_path / "cache")
    monkeypatch.setattr(os, "getuid", lambda: (tmp_path / "cache").stat().st_uid)
    with pytest.raises(PermissionError, match="belongs to another user, number"):
        private_folder(str(tmp_path / "cache"))
    monkeypatch.setattr(os, "geteuid", os.getuid)
    assert private_folder(str(tmp_path / "cache")) == str(tmp_path / "cache")


def test_a_file_that_another_process_has_just_removed_is_no_matter(tmp_path, monkeypatch):
    (tmp_path / "gone").write_text("")
    look = os.scandir

    def slow(path):
        entries = list(look(path))
        (tmp_path / "gone").unlink()
        return contextlib.nullcontext(entries)

    monkeypatch.setattr(os, "scandir", slow)
    assert private_folder(str(tmp_path)) == str(tmp_path)


@pytest.mark.parametrize("name", ["a\nb\x1b[31m", "long" * 60])
def test_messages_are_one_printable_line_of_bounded_length(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name).chmod(0o777)
    with pytest.raises(PermissionError) as caught:
        private_folder(str(tmp_path / name))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500
    with pytest.raises(OSError, match="File name too long") as caught:
        private_folder("/" + 9999 * "n")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("path", ["", ".", "cache", "~/cache"])
def test_a_relative_path_is_refused(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError, match="wanted an absolute path"):
        private_folder(path)
    assert os.listdir(tmp_path) == []


def test_a_file_on_the_way_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match=r"file' is a file, not a directory"):
        private_folder(str(tmp_path / "file" / "cache"))


def test_where_files_have_no_owner_folders_are_taken_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(ownership, "_PERMISSIONS", False)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    assert private_folder(str(tmp_path / "open" / "cache")) == str(tmp_path / "open" / "cache")
    assert (tmp_path / "open" / "cache").is_dir()
