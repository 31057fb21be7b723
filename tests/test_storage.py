"""Atomic writing: a file is whole or not there."""

import os
import stat
import subprocess
import sys

import pytest

from refvlm.storage import atomic_write, check_writable


def test_the_file_appears_whole_and_alone(tmp_path):
    with atomic_write(tmp_path / "a.bin") as file:
        file.write(b"one ")
        assert not (tmp_path / "a.bin").exists()
        file.write(b"two")
    assert (tmp_path / "a.bin").read_bytes() == b"one two"
    assert os.listdir(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_a_failed_write_changes_nothing(tmp_path, failure):
    (tmp_path / "a.bin").write_bytes(b"before")

    def write(name):
        with atomic_write(tmp_path / name) as file:
            file.write(b"half")
            file.flush()
            raise failure

    for name in ("a.bin", "b.bin"):
        with pytest.raises(failure):
            write(name)
    assert os.listdir(tmp_path) == ["a.bin"]
    assert (tmp_path / "a.bin").read_bytes() == b"before"


def test_a_disk_that_fails_at_the_last_moment_changes_nothing(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"), atomic_write(tmp_path / "a.bin") as file:
        file.write(b"something")
    assert os.listdir(tmp_path) == []


def test_the_contents_are_synchronised_before_the_name_exists(tmp_path, monkeypatch):
    order = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (order.append("fsync"), sync(descriptor)))
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append("replace"), replace(a, b)))
    with atomic_write(tmp_path / "a.bin") as file:
        file.write(b"x")
    assert order == ["fsync", "replace"]


@pytest.mark.skipif(os.name != "posix", reason="permission bits are POSIX")
def test_a_new_file_respects_the_umask_and_an_old_one_keeps_its_mode(tmp_path):
    before = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "new") as file:
            file.write(b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
    (tmp_path / "new").chmod(0o600)
    with atomic_write(tmp_path / "new") as file:
        file.write(b"y")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600


@pytest.mark.skipif(os.name != "posix", reason="symbolic links need a privilege elsewhere")
def test_a_symbolic_link_is_followed(tmp_path):
    (tmp_path / "real").write_bytes(b"before")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with atomic_write(tmp_path / "link") as file:
        file.write(b"after")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"after"


@pytest.mark.skipif(os.name != "posix", reason="owners are POSIX")
@pytest.mark.parametrize("attempt", [check_writable, lambda path: atomic_write(path).__enter__()])
def test_another_users_symbolic_link_is_not_followed(tmp_path, monkeypatch, attempt):
    """Neither at the name itself nor behind a link of one's own. Only root can give one away; others are renamed."""
    (tmp_path / "real").write_bytes(b"before")
    (tmp_path / "theirs").symlink_to(tmp_path / "real")
    (tmp_path / "ours").symlink_to("theirs")
    if os.geteuid() == 0:
        os.lchown(tmp_path / "theirs", 65534, 65534)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 65534)
    for name in ("theirs", "ours"):
        with pytest.raises(PermissionError, match=rf"{name}: is a symbolic link of another user; write elsewhere"):
            attempt(tmp_path / name)
    assert (tmp_path / "real").read_bytes() == b"before"
    assert sorted(os.listdir(tmp_path)) == ["ours", "real", "theirs"]


@pytest.mark.skipif(os.name != "posix", reason="symbolic links need a privilege elsewhere")
def test_symbolic_links_in_a_circle_end(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    check_writable(tmp_path / "a")


@pytest.mark.skipif(os.chmod not in os.supports_fd, reason="modes are set by name elsewhere")
def test_the_mode_goes_to_the_file_that_was_opened_whatever_takes_its_name(tmp_path, monkeypatch):
    (tmp_path / "victim").write_bytes(b"")
    (tmp_path / "victim").chmod(0o600)
    (tmp_path / "a.bin").write_bytes(b"before")
    (tmp_path / "a.bin").chmod(0o644)
    look = os.stat

    def slow(path, **options):
        for name in os.listdir(tmp_path):
            if name.endswith(".tmp"):
                os.unlink(tmp_path / name)
                os.symlink(tmp_path / "victim", tmp_path / name)
        return look(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", slow)
        with atomic_write(tmp_path / "a.bin") as file:
            file.write(b"after")
    assert stat.S_IMODE((tmp_path / "victim").stat().st_mode) == 0o600


@pytest.mark.parametrize("attempt", [check_writable, lambda path: atomic_write(path).__enter__()])
def test_refusals_name_the_path_and_a_way_out(tmp_path, attempt):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(IsADirectoryError, match=r"is a directory; wanted the name of a file"):
        attempt(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"missing.a\.bin: cannot be written: there is no directory .*make it"):
        attempt(tmp_path / "missing" / "a.bin")
    with pytest.raises(NotADirectoryError, match=r"file.a\.bin: cannot be written: a part of .* is a file"):
        attempt(tmp_path / "file" / "a.bin")
    with pytest.raises(OSError, match="cannot be written"):
        attempt(tmp_path / ("n" * 300))
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(os.name != "posix", reason="devices and pipes are POSIX")
def test_a_device_or_pipe_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="no ordinary file"):
        check_writable(tmp_path / "pipe")


def test_looking_whether_a_file_can_be_written_leaves_nothing(tmp_path):
    check_writable(tmp_path / "a.bin")
    assert os.listdir(tmp_path) == []
    (tmp_path / "a.bin").write_bytes(b"before")
    check_writable(tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == b"before"


@pytest.mark.skipif(os.name != "posix", reason="a signal that interrupts is POSIX")
def test_an_interrupt_from_outside_leaves_nothing(tmp_path):
    script = (
        "import os, signal, sys\n"
        "from refvlm.storage import atomic_write\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a background job starts with it ignored
        "with atomic_write(sys.argv[1]) as file:\n"
        "    file.write(b'half')\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    signal.pause()\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, tmp_path / "a.bin"], capture_output=True, check=False)
    assert b"KeyboardInterrupt" in ended.stderr
    assert os.listdir(tmp_path) == []
