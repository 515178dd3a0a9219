"""Files that appear whole or not at all, and what killed processes leave."""

import contextlib
import errno
import os
import resource
import signal
from pathlib import Path

import pytest
from tests.processes import forked

from cyclr import RangeTestError, _files
from cyclr.range_test.copies import on_disk


def killed_while(folder: Path, write) -> list[str]:
    """Kill a forked process by SIGKILL in the middle of writing, and return the names that it left."""
    status, _ = forked(lambda: write(lambda *_: os.kill(os.getpid(), signal.SIGKILL)))
    assert status == -signal.SIGKILL
    return names(folder)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@contextlib.contextmanager
def full_disk(size: int = 0):
    """A disk on which files have at most so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_a_kill_left_is_removed_by_the_next_writer_of_the_same_file(tmp_path):
    path = tmp_path / "a[1].json"
    _files.write_atomically(path, "old")
    other = tmp_path / f".b.json.{'0' * 32}.tmp"
    other.write_text("of another file")
    for _ in range(2):
        left = killed_while(tmp_path, lambda kill: _files.write_atomically(path, kill))
        assert [".a[1].json." in name and name.endswith(".tmp") for name in left] == [True, False, False]
    assert path.read_text() == "old"
    _files.write_atomically(path, "new")
    assert names(tmp_path) == [other.name, "a[1].json"]
    assert path.read_text() == "new"


def test_a_file_that_another_process_is_writing_is_left_alone(tmp_path):
    path = tmp_path / "a.json"

    def written_twice(file):
        file.write(b"first")
        _files.write_atomically(path, "second")
        assert len(names(tmp_path)) == 2

    _files.write_atomically(path, written_twice)
    assert path.read_text() == "first"
    assert names(tmp_path) == ["a.json"]


def test_a_file_or_folder_that_another_process_removes_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    lock, locked = _files._lock, []

    def remove_first(descriptor, *, wait):
        if not locked:
            (new,) = tmp_path.iterdir()
            new.rmdir() if new.is_dir() else new.unlink()
        locked.append(descriptor)
        return lock(descriptor, wait=wait)

    monkeypatch.setattr(_files, "_lock", remove_first)
    with _files.folder_within(tmp_path, name="snapshot_dir") as folder:
        (folder / "0.bin").write_bytes(b"0")
    assert names(tmp_path) == []
    assert len(locked) == 2
    locked.clear()
    _files.write_atomically(tmp_path / "a.json", "content")
    assert (tmp_path / "a.json").read_text() == "content"
    assert names(tmp_path) == ["a.json"]


def test_files_are_written_where_there_are_no_locks(tmp_path, monkeypatch):
    monkeypatch.setattr(_files, "_lock", lambda descriptor, *, wait: False)
    _files.write_atomically(tmp_path / "a.json", "content")
    with _files.folder_within(tmp_path, name="snapshot_dir") as folder:
        assert folder.is_dir()
    assert names(tmp_path) == ["a.json"]


def test_errors_name_the_file_that_was_to_be_written(tmp_path):
    path = tmp_path / "a.json"
    _files.write_atomically(path, "old")
    with full_disk(2), pytest.raises(OSError, match="File too large") as caught:
        _files.write_atomically(path, "new content")
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.json"]


@pytest.mark.parametrize(("number", "is_raised"), [(errno.EIO, True), (errno.ENOSPC, True), (errno.EINVAL, False)])
def test_names_that_the_disk_did_not_confirm_are_an_error(tmp_path, monkeypatch, number, is_raised):
    def fails(descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match=os.strerror(number)) if is_raised else contextlib.nullcontext():
        _files.sync_folder(tmp_path)


def test_copies_that_a_killed_range_test_left_are_removed_by_the_next(tmp_path):
    others = [".cyclr-copy-of-mine", "cyclr-demo"]
    for name in others:
        (tmp_path / name).mkdir()

    def copy(kill):
        with _files.folder_within(tmp_path, name="snapshot_dir") as folder:
            (folder / "0.bin").write_bytes(b"0")
            kill()

    assert len(killed_while(tmp_path, copy)) == 3
    within = _files.folder_within
    with within(tmp_path, name="snapshot_dir") as first, within(tmp_path, name="snapshot_dir"):
        assert first.is_dir()
        assert len(names(tmp_path)) == 4
    assert names(tmp_path) == others


def test_a_folder_of_copies_that_cannot_be_removed_hides_no_other_error(tmp_path, monkeypatch):
    def fails(*_, **__):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def test():
        with _files.folder_within(tmp_path, name="snapshot_dir"):
            monkeypatch.setattr("shutil.rmtree", fails)
            raise RangeTestError("the data")

    with pytest.raises(RangeTestError, match="the data"):
        test()


@pytest.mark.parametrize(
    ("restoring", "message"),
    [
        (False, "cannot be written to snapshot_dir: No space left on device. Free some disk space"),
        (True, "cannot be restored from the files in snapshot_dir: No space left on device. The model has the state"),
    ],
)
def test_a_disk_of_copies_that_fails_is_one_kind_of_error(restoring, message):
    with pytest.raises(RangeTestError, match=message), on_disk(restoring=restoring):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_links_devices_and_pipes_stay_what_they_are(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link.json").symlink_to(tmp_path / "elsewhere" / "a.json")
    _files.write_atomically(tmp_path / "link.json", "content")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "elsewhere" / "a.json").read_text() == "content"
    _files.write_atomically("/dev/null", "content")
    assert Path("/dev/null").is_char_device()
    os.mkfifo(tmp_path / "pipe")
    with open(os.open(tmp_path / "pipe", os.O_RDWR), "rb", buffering=0) as pipe:  # noqa: PTH123
        _files.write_atomically(tmp_path / "pipe", "content")
        assert pipe.read(7) == b"content"
    assert (tmp_path / "pipe").is_fifo()
