"""Writing files: whole or not at all, where and as they were."""

import contextlib
import errno
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import deepcomp_jax as dc
from deepcomp_jax.format import files

ROOT = os.geteuid() == 0


@pytest.mark.spec("C43")
def test_writing_replaces_a_file(tmp_path: Path):
    path = tmp_path / "m.dcz"
    for data in (b"first", b"second"):
        files.write(path, data)
        assert path.read_bytes() == data
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.spec("C43")
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_an_interrupted_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
):
    path = tmp_path / "m.dcz"
    files.write(path, b"old")

    def fail(*_: object) -> None:
        assert path.read_bytes() == b"old"
        raise KeyboardInterrupt

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(KeyboardInterrupt):
        files.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.spec("C43")
@pytest.mark.parametrize("length", [1, 200, 245, 246, 250, 255])
def test_names_of_every_length(tmp_path: Path, length: int):
    path = tmp_path / ("n" * length)
    for data in (b"first", b"second"):
        files.write(path, data)
    assert path.read_bytes() == b"second"


@contextlib.contextmanager
def special(kind: str, folder: Path) -> Iterator[Path]:
    """A path that is no regular file, or a link to one."""
    path = folder / "special"
    with contextlib.ExitStack() as stack:
        if kind == "socket":
            server = stack.enter_context(socket.socket(socket.AF_UNIX))
            server.bind(str(path))
        elif kind == "stdout":
            reader, writer = os.pipe()
            stack.callback(os.close, reader)
            stack.callback(os.close, writer)
            path = Path(f"/proc/self/fd/{writer}")
        elif kind == "removed":
            (folder / "gone").touch()
            file = stack.enter_context((folder / "gone").open("rb"))
            (folder / "gone").unlink()
            path = Path(f"/proc/self/fd/{file.fileno()}")
        elif kind == "device":
            path.symlink_to(os.devnull)
        else:
            {"FIFO": os.mkfifo, "directory": os.mkdir}[kind](path)
        yield path


@pytest.mark.spec("C50")
@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("FIFO", "FIFO"), ("directory", "directory"), ("socket", "socket"),
        ("device", "device"), ("stdout", "FIFO"), ("removed", "without a name"),
    ],
)  # fmt: skip
def test_what_is_no_regular_file_is_refused(
    tmp_path: Path, kind: str, said: str, linked: bool
):
    if kind in ("stdout", "removed") and not Path("/proc/self/fd").exists():
        pytest.skip("links to open files are Linux's")
    with special(kind, tmp_path) as path:
        given = path
        if linked:
            given = tmp_path / "link"
            given.symlink_to(path)
        before, names = os.stat(path), sorted(os.listdir(tmp_path))
        with pytest.raises(OSError, match=said) as error:
            dc.save(given, dc.compress({}, []))
        assert os.path.samestat(os.stat(path), before)
        assert sorted(os.listdir(tmp_path)) == names
        assert error.value.filename == str(given)


@pytest.mark.spec("C50")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o444, 0o755])
def test_a_file_keeps_its_mode(tmp_path: Path, mode: int):
    path = tmp_path / "m.dcz"
    path.write_bytes(b"old")
    path.chmod(mode)
    files.write(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.spec("C50")
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_new_file_has_the_mode_that_the_umask_leaves(tmp_path: Path, umask: int):
    before = os.umask(umask)
    try:
        files.write(tmp_path / "m.dcz", b"new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "m.dcz").stat().st_mode) == 0o666 & ~umask


@pytest.mark.spec("C50")
def test_a_draft_of_a_private_file_is_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "m.dcz"
    path.write_bytes(b"old")
    path.chmod(0o600)
    modes: list[int] = []

    def look(draft: Path, target: Path) -> None:
        modes.extend(p.stat().st_mode & 0o777 for p in tmp_path.iterdir())

    monkeypatch.setattr(os, "replace", look)
    files.write(path, b"new")
    assert modes == [0o600, 0o600]


@pytest.mark.spec("C50")
@pytest.mark.skipif(not ROOT, reason="only root gives files away")
def test_a_file_keeps_its_owner(tmp_path: Path):
    path = tmp_path / "m.dcz"
    path.write_bytes(b"old")
    os.chown(path, 1234, 4321)
    path.chmod(0o640)
    files.write(path, b"new")
    found = path.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (1234, 4321, 0o640)


@pytest.mark.spec("C50")
def test_an_owner_that_cannot_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As for users other than root, who give no files away."""
    path = tmp_path / "m.dcz"
    path.write_bytes(b"old")
    stranger = path.stat().st_uid + 1
    original = os.stat

    def of_a_stranger(file: object, **options: object) -> os.stat_result:
        found = original(file, **options)  # pyright: ignore
        fields = list(found)
        if str(file) == str(path):
            fields[4] = stranger
        return os.stat_result(fields)

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "stat", of_a_stranger)
    monkeypatch.setattr(os, "chown", refuse)
    with pytest.raises(PermissionError, match="another owner's file") as error:
        files.write(path, b"new")
    assert error.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["m.dcz"]


@pytest.mark.spec("C50")
@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("links", [1, 2])
def test_links_are_followed(tmp_path: Path, exists: bool, links: int):
    (tmp_path / "far").mkdir()
    target = tmp_path / "far" / "m.dcz"
    if exists:
        target.write_bytes(b"old")
    path = target
    for number in range(links):
        link = tmp_path / f"link{number}"
        link.symlink_to(os.path.relpath(path, tmp_path))
        path = link
    files.write(path, b"new")
    assert path.is_symlink()
    assert target.read_bytes() == b"new"
    assert os.listdir(tmp_path / "far") == ["m.dcz"]


def test_errors_name_the_path(tmp_path: Path):
    for path in (tmp_path / "none" / "m.dcz", tmp_path / ("n" * 256)):
        with pytest.raises(OSError) as error:
            files.write(path, b"new")
        assert error.value.filename == str(path)
        assert "draft" not in str(error.value)
    assert os.listdir(tmp_path) == []


@pytest.mark.spec("C51")
def test_file_and_directory_are_brought_to_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    done: list[str] = []
    sync, replace = os.fsync, os.replace

    def synced(number: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(number).st_mode)
        assert is_folder or os.fstat(number).st_size == 3, "synced before it is written"
        done.append("directory" if is_folder else "file")
        sync(number)

    def replaced(draft: Path, path: Path) -> None:
        done.append("replace")
        replace(draft, path)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    files.write(tmp_path / "m.dcz", b"new")
    assert done == ["file", "replace", "directory"]


@pytest.mark.spec("C43", "C52")
def test_drafts_of_killed_writers_are_removed(tmp_path: Path):
    path, other = tmp_path / "m.dcz", tmp_path / "other.dcz"
    files.write(path, b"old")
    code = (
        "import os, signal, sys; from deepcomp_jax.format import files;"
        "os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL);"
        "files.write(sys.argv[1], b'new')"
    )
    for target in (path, other):
        killed = subprocess.run([sys.executable, "-c", code, target], check=False)
        assert killed.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    assert len(os.listdir(tmp_path)) == 3
    files.write(path, b"newer")
    assert len(os.listdir(tmp_path)) == 2  # the draft of the other file is its own
    files.write(other, b"newer")
    assert sorted(os.listdir(tmp_path)) == ["m.dcz", "other.dcz"]


@pytest.mark.spec("C52")
def test_the_draft_of_a_living_writer_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path, replace = tmp_path / "m.dcz", os.replace

    def write_meanwhile(draft: Path, target: Path) -> None:
        monkeypatch.setattr(os, "replace", replace)
        files.write(path, b"first")
        assert path.read_bytes() == b"first"
        replace(draft, target)

    monkeypatch.setattr(os, "replace", write_meanwhile)
    files.write(path, b"second")
    assert path.read_bytes() == b"second"
    assert os.listdir(tmp_path) == ["m.dcz"]


# ---- spools -------------------------------------------------------------------------


def test_nothing_is_left_of_a_spool(tmp_path: Path):
    path = tmp_path / "m.dcz"
    with files.spool(path) as file:
        file.write(b"bodies")
        file.seek(0)
        assert file.read() == b"bodies"
        assert not path.exists()
    assert os.listdir(tmp_path) == []
    with pytest.raises(KeyboardInterrupt), files.spool(path) as file:
        file.write(b"bodies")
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_a_spool_is_on_the_disk_of_the_file(tmp_path: Path):
    """Beside what a link leads to: other folders may be small, such as /tmp."""
    (tmp_path / "far").mkdir()
    link = tmp_path / "m.dcz"
    link.symlink_to(tmp_path / "far" / "m.dcz")
    code = (
        "import os, signal, sys; from deepcomp_jax.format import files\n"
        "with files.spool(sys.argv[1]) as file:\n"
        "    where = os.readlink(f'/proc/self/fd/{file.fileno()}')\n"
        "    print(os.path.dirname(where), flush=True)\n"
        "    file.write(b'bodies'); file.flush()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", code, link], capture_output=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert killed.stdout.decode().strip() == str(tmp_path / "far")
    assert os.listdir(tmp_path / "far") == []


def test_a_disk_that_is_full_is_named_by_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "m.dcz"
    path.write_bytes(b"old")
    for context in (files.spool, files.replacing):
        with pytest.raises(OSError, match="No space left") as error, context(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        assert error.value.filename == str(path)
        assert error.value.errno == errno.ENOSPC
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["m.dcz"]
