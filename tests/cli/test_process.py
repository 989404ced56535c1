"""The command as a process of its own: how it starts, is stopped, and fails."""

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepcomp_jax import checkpoints
from deepcomp_jax.cli.main import VERBS
from tests.cli.conftest import network

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "deepcomp_jax"]


def _dcz(*arguments: Any, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], text=True, cwd=ROOT, check=False,
        **({"capture_output": True} | more),
    )  # fmt: skip


def test_the_entry_point_is_the_command():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, _, name = project["scripts"]["dcz"].partition(":")
    assert (
        getattr(import_module(module), name)
        is import_module("deepcomp_jax.cli.main").main
    )


def test_help_says_all_verbs():
    said = _dcz("--help")
    assert said.returncode == 0 and all(verb in said.stdout for verb in VERBS)
    assert max(map(len, said.stdout.splitlines())) <= 88
    for verb in VERBS:
        assert _dcz(verb, "--help").returncode == 0
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert _dcz("--version").stdout.startswith("dcz ") and version["name"]
    for wrong in ([], ["nothing"], ["inspect"]):
        assert _dcz(*wrong).returncode == 2


@pytest.mark.parametrize(
    ("arguments", "without"),
    [
        (["--help"], ["numpy", "jax"]),
        (["compress", "--help"], ["numpy", "jax"]),
        (["inspect", "{model}"], ["jax"]),
        (["inspect", "{file}"], ["jax"]),
    ],
    ids=str,
)
def test_what_is_quick_does_not_load_what_is_slow(
    tmp_path: Path, arguments: list[str], without: list[str]
):
    model, file = tmp_path / "m.npz", tmp_path / "m.dcz"
    for path in (model, file):
        checkpoints.write(path, {"w": np.ones(3)})
    given = [own.format(model=model, file=file) for own in arguments]
    code = (
        "import sys; from deepcomp_jax.cli import main; main(sys.argv[1:]);"
        "print([m for m in ('numpy', 'jax', 'matplotlib') if m in sys.modules])"
    )
    said = subprocess.run(
        [sys.executable, "-c", code, *given],
        capture_output=True, text=True, cwd=ROOT, check=True,
    )  # fmt: skip
    loaded = said.stdout.splitlines()[-1]
    assert not any(name in loaded for name in without)


# ---- stopped ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint and its `.dcz` file."""
    folder = tmp_path_factory.mktemp("large")
    rng = np.random.default_rng(0)
    tree = {
        f"layer.{i}.weight": rng.normal(size=(100, 200)).astype(np.float32)
        for i in range(30)
    }
    for name in ("m.safetensors", "m.dcz"):
        checkpoints.write(folder / name, tree)
    return folder


CALLS = {
    "compress": ["compress", "m.safetensors", "-o", "out.dcz"],
    "lossless": ["compress", "m.safetensors", "-o", "out.dcz", "--lossless"],
    "decompress": ["decompress", "m.dcz", "-o", "out.safetensors"],
    "sharded": ["decompress", "m.dcz", "-o", "out", "--format", "safetensors-sharded"],
    "orbax": ["decompress", "m.dcz", "-o", "out", "--format", "orbax"],
    "extract": ["extract", "m.dcz", "layer", "-o", "out.npz"],
}


# The command, which takes two seconds over its fifth tensor and says when it begins.
SLOW = """
import pathlib, sys, time
from deepcomp_jax.checkpoints import leaves
from deepcomp_jax.cli import main
read, reads = leaves.Leaf.__array__, []
def slow(self, dtype=None, copy=None):
    reads.append(self)
    if len(reads) == 5:
        pathlib.Path(sys.argv[1]).touch()
        time.sleep(2)
    return read(self, dtype, copy)
leaves.Leaf.__array__ = slow
sys.exit(main(sys.argv[2:]))
"""


def _stopped(
    folder: Path, call: str, how: signal.Signals, ready: Path
) -> tuple[int, str]:
    """Runs a call and stops it in the middle."""
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, ready, *CALLS[call]], cwd=folder, text=True,
        stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as running:  # fmt: skip
        while running.poll() is None and not ready.exists():
            time.sleep(0.01)
        running.send_signal(how)
        _, said = running.communicate(timeout=60)
    return running.returncode, said


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_what_is_interrupted_leaves_nothing(
    large: Path, tmp_path: Path, call: str, how: signal.Signals
):
    before = sorted(os.listdir(large))
    status, said = _stopped(large, call, how, tmp_path / "ready")
    assert status == 130, said
    assert said == "dcz: interrupted; nothing was written\n"
    assert sorted(os.listdir(large)) == before


@pytest.mark.parametrize("call", CALLS)
def test_what_is_killed_is_cleaned_up_by_the_next_run(
    large: Path, tmp_path: Path, call: str
):
    before = sorted(os.listdir(large))
    status, _ = _stopped(large, call, signal.SIGKILL, tmp_path / "ready")
    assert status == -signal.SIGKILL
    left = set(os.listdir(large)) - set(before)
    assert all(name.startswith(".") and name.endswith(".draft") for name in left)
    done = subprocess.run(
        [*COMMAND, *CALLS[call], "--json"], cwd=large, capture_output=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    output = Path(json.loads(done.stdout)["output"])
    assert set(os.listdir(large)) - set(before) == {str(output)}
    with checkpoints.open(large / output) as found:
        assert len(found.leaves) == 30
    if output.suffix:
        (large / output).unlink()
    else:
        shutil.rmtree(large / output)


def test_what_is_interrupted_as_it_starts_says_so_too():
    code = (
        "import sys\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'deepcomp_jax.cli.main': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        "import deepcomp_jax.cli\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert (said.returncode, said.stdout) == (130, "")
    assert said.stderr == "dcz: interrupted; nothing was written\n"


# ---- full, closed, looked at --------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A `.dcz` file beside its checkpoint."""
    checkpoints.write(tmp_path / "m.safetensors", network())
    checkpoints.write(tmp_path / "m.dcz", network())
    return tmp_path / "m.dcz"


def test_devices_and_folders_are_not_written_to(file: Path):
    for output, match in (("/dev/full", "exists"), (str(file.parent), "exists")):
        said = _dcz("decompress", file, "-o", output, "--format", "npz")
        assert (said.returncode, said.stdout) == (2, "") and match in said.stderr
    as_that = ["--format", "safetensors"]
    said = _dcz("decompress", file, "-f", "-o", "/dev/full", *as_that)
    assert said.returncode == 1 and "not a regular file" in said.stderr
    said = _dcz("decompress", file, "-o", file.parent / "no" / "m.safetensors")
    assert said.returncode == 1 and "No such file or directory" in said.stderr


@pytest.mark.parametrize("ending", ["dcz", "safetensors", "npz", "msgpack", "orbax"])
def test_a_disk_that_is_full_leaves_nothing(tmp_path: Path, ending: str):
    rng = np.random.default_rng(0)
    tree = {f"w{i}": rng.normal(size=(200, 300)) for i in range(4)}
    checkpoints.write(tmp_path / "m.dcz", tree)
    format = [] if ending != "orbax" else ["--format", "orbax"]
    output = tmp_path / f"out.{ending}"
    verb = ["extract"] if ending == "dcz" else ["decompress"]
    pattern = ["w"] if ending == "dcz" else []
    given = [*verb, tmp_path / "m.dcz", *pattern, "-o", output, *format]
    # No file of this process may have more bytes: writing fails as on a full disk.
    code = (
        "import resource, signal, sys; from deepcomp_jax.cli import main;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000));"
        "sys.exit(main(sys.argv[1:]))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code, *map(str, given)],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert said.returncode == 1, said
    assert said.stderr.startswith("dcz: ") and said.stderr.count("\n") == 1
    assert said.stderr == f"dcz: {output}: File too large\n"
    assert os.listdir(tmp_path) == ["m.dcz"]


def test_an_output_that_is_full_or_closed(file: Path):
    with open("/dev/full", "w") as full:
        said = _dcz("inspect", file, stdout=full, stderr=subprocess.PIPE,
                    capture_output=False)  # fmt: skip
    assert said.returncode == 1
    assert said.stderr == "dcz: No space left on device\n"
    read, write = os.pipe()
    os.close(read)
    said = _dcz("inspect", file, stdout=write, stderr=subprocess.PIPE,
                capture_output=False)  # fmt: skip
    os.close(write)
    assert (said.returncode, said.stderr) == (0, "")


def test_text_that_the_terminal_cannot_show_is_escaped(tmp_path: Path):
    checkpoints.write(tmp_path / "m.npz", {"ä\x1b": np.ones(2)})
    narrow = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    said = _dcz("inspect", tmp_path / "m.npz", env=narrow)
    assert said.returncode == 0 and r"\xe4\x1b" in said.stdout


@pytest.mark.parametrize("option", [[], ["-q"]])
def test_progress_is_for_terminals(file: Path, option: list[str]):
    ours, theirs = pty.openpty()
    said = _dcz("verify", file, *option, stdout=subprocess.PIPE, stderr=theirs,
                capture_output=False)  # fmt: skip
    os.close(theirs)
    shown = b""
    while option == [] and not shown.endswith(b" \r"):
        shown += os.read(ours, 1000)
    os.close(ours)
    assert said.returncode == 0
    count = f"verify: tensor {len(network())} of {len(network())}, ".encode()
    assert (count in shown) == (option == [])
    assert (said.stdout == "") == (option == ["-q"])
