"""Atomic writing: a file is whole or not there."""

import os
import stat
import subprocess
import sys

import pytest

from refvlm import storage
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
    message = rf"{tmp_path}/a\.bin: cannot be written: No space left on device; make room there, or write elsewhere"
    with pytest.raises(OSError, match=message), atomic_write(tmp_path / "a.bin") as file:
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


needs_locks = pytest.mark.skipif(os.name != "posix", reason="locks of files are POSIX")


def killed_while_writing(path):
    """A process that is killed in the middle of a write, and what it leaves."""
    script = (
        "import os, signal, sys\nfrom refvlm.storage import atomic_write\n"
        "with atomic_write(sys.argv[1]) as file:\n"
        "    file.write(b'half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", script, path], check=False)
    (left,) = path.parent.glob("*.tmp")
    return left


@needs_locks
@pytest.mark.parametrize("write", [check_writable, lambda path: overwrite(path, b"whole")])
def test_what_a_killed_process_left_is_removed_by_the_next_one_there(tmp_path, write):
    left = killed_while_writing(tmp_path / "a.bin")
    others = [tmp_path / name for name in ("b.bin.0123456789ab.tmp", "a.bin.tmp", f"a.bin.{'z' * 12}.tmp")]
    others.append(tmp_path / left.name.replace(storage._HOST, "ffff" if storage._HOST != "ffff" else "0000"))
    for other in others:  # of another file, not of refvlm, not of this machine
        other.write_bytes(b"precious")
    write(tmp_path / "a.bin")
    assert not left.exists()
    assert all(other.read_bytes() == b"precious" for other in others)


def overwrite(path, content):
    with atomic_write(path) as file:
        file.write(content)


@needs_locks
def test_a_symbolic_link_leads_to_what_was_left(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder" / "a.bin")
    left = killed_while_writing(tmp_path / "folder" / "a.bin")
    overwrite(tmp_path / "link", b"whole")
    assert not left.exists()
    assert (tmp_path / "folder" / "a.bin").read_bytes() == b"whole"


def test_what_another_one_is_writing_is_left_alone(tmp_path):
    path = tmp_path / "a.bin"
    with atomic_write(path) as slow:
        slow.write(b"slow")
        check_writable(path)
        overwrite(path, b"quick")
        assert path.read_bytes() == b"quick"
    assert path.read_bytes() == b"slow"
    assert os.listdir(tmp_path) == ["a.bin"]


@needs_locks
def test_a_temporary_file_that_is_removed_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    import fcntl

    lock, removed = fcntl.flock, []

    def slow(descriptor, how):
        if not removed:
            (found,) = tmp_path.glob("*.tmp")
            found.unlink()
            removed.append(found)
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", slow)
    overwrite(tmp_path / "a.bin", b"whole")
    assert removed
    assert (tmp_path / "a.bin").read_bytes() == b"whole"
    assert os.listdir(tmp_path) == ["a.bin"]


@needs_locks
def test_writers_of_one_file_never_take_each_others_temporary_ones(tmp_path):
    """Five processes, a hundred writes each: none fails, and what is there in the end is one of them, whole."""
    script = (
        "import sys\nfrom refvlm.storage import atomic_write\n"
        "for n in range(100):\n"
        "    with atomic_write(sys.argv[1]) as file:\n        file.write(sys.argv[2].encode() * 5000)\n"
    )
    path = tmp_path / "a.bin"
    writers = [subprocess.Popen([sys.executable, "-c", script, path, str(n)]) for n in range(5)]
    assert [writer.wait() for writer in writers] == [0] * 5
    content = path.read_bytes()
    assert content == content[:1] * 5000
    assert os.listdir(tmp_path) == ["a.bin"]


def test_an_error_of_the_block_about_another_file_stays_what_it_is(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"other\.txt"), atomic_write(tmp_path / "a.bin"):
        (tmp_path / "other.txt").read_bytes()
