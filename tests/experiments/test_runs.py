"""The directory of a run: damage, killed processes, two at once, other shapes."""

import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.training import runs

KILLED = """
import os, signal, sys
from pathlib import Path
from experiments.training import runs
from tests.experiments.test_runs import finish

directory, step, left = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
call = getattr(os, step)

def deadly(*args):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return call(*args)

setattr(os, step, deadly)
runs.SAVE_EVERY = 0.0
finish(directory)
"""
EPOCHS = 3


@dataclasses.dataclass(frozen=True)
class Settings:
    """Of a run that adds up numbers."""

    seed: int = 0


def finish(directory: Path, start: Any = None) -> float:
    """Runs a phase that doubles and counts, then a row with the sum; returns that."""

    def train_epoch(state: Any, epoch: int) -> tuple[Any, dict[str, Any]]:
        return {"w": 2 * state["w"] + epoch}, {"first": float(state["w"][0])}

    start = {"w": jnp.arange(4.0)} if start is None else start
    with runs.Run(directory, Settings(), epochs=EPOCHS) as run:
        state = run.phase("dense", start, EPOCHS, train_epoch)
        row = run.measure("end", lambda: {"sum": float(state["w"].sum())})
    return row["sum"]


EXPECTED = 8 * (0 + 1 + 2 + 3) + 4 * (2 * 1 + 2)  # 2(2(2w + 0) + 1) + 2, over four


def test_a_killed_process_leaves_a_run_that_ends_the_same(tmp_path: Path):
    for step, left in (("fsync", 3), ("replace", 2), ("fsync", 7)):
        killed = subprocess.run(
            [sys.executable, "-c", KILLED, str(tmp_path), step, str(left)],
            capture_output=True,
            check=False,
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-500:]
    assert finish(tmp_path) == EXPECTED
    rows = [
        json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()
    ]
    assert [row.get("epoch") for row in rows] == [1, 2, 3, None]
    assert not list(tmp_path.rglob("*.draft"))


def test_drafts_of_killed_runs_are_removed_and_nothing_else(tmp_path: Path):
    (tmp_path / "phases").mkdir()
    drafts = [
        tmp_path / ".0123abcd.89abcdef.draft",
        tmp_path / "phases" / ".0123abcd.00000000.draft",
    ]
    others = [tmp_path / "my.draft", tmp_path / ".notes.draft", tmp_path / "a.png"]
    for path in drafts + others:
        path.write_bytes(b"x")
    finish(tmp_path)
    assert not any(path.exists() for path in drafts)
    assert all(path.exists() for path in others)


@pytest.mark.parametrize("name", ["dense.msgpack", "end.json"])
@settings(
    max_examples=30,
    deadline=None,
)
@given(data=st.data())
def test_a_damaged_file_is_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
):
    directory = tmp_path_factory.getbasetemp() / f"damaged-{name}"
    path = directory / "phases" / name
    path.unlink(missing_ok=True)
    assert finish(directory) == EXPECTED
    content = bytearray(path.read_bytes())
    # Rows say how long they took, so that the length of the file differs.
    place = data.draw(st.integers(0, 10_000), "place") % len(content)
    if data.draw(st.booleans(), "truncated"):
        del content[place:]
    else:
        content[place] ^= 1 << data.draw(st.integers(0, 7), "bit")
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=f"{name} is damaged or .*: delete it, and the"
    ):
        finish(directory)
    path.unlink()
    assert finish(directory) == EXPECTED


@settings(max_examples=20, deadline=None)
@given(content=st.binary(max_size=40))
def test_damaged_settings_are_refused_and_damaged_metrics_written_anew(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
):
    directory = tmp_path_factory.mktemp("run")
    finish(directory)
    metrics = (directory / "metrics.jsonl").read_bytes()
    (directory / "metrics.jsonl").write_bytes(content)
    finish(directory)
    assert (directory / "metrics.jsonl").read_bytes() == metrics
    (directory / "config.json").write_bytes(content + b"\xff")
    with pytest.raises(ValueError, match="config.json .* or is damaged: give another"):
        finish(directory)


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ({"w": jnp.zeros(5)}, r"\['w'\] is float32\[4\] there and float32\[5\] here"),
        ({"w": jnp.zeros(4, int)}, r"\['w'\] is float32\[4\] there and int32\[4\]"),
        ({"v": jnp.zeros(4)}, r"\['v'\] is missing there and float32\[4\] here"),
        ({"w": jnp.zeros(4), "x": jnp.zeros(1)}, r"\['x'\] is missing there"),
        ({}, r"\['w'\] is float32\[4\] there and missing here"),
    ],
)
def test_a_state_of_another_shape_is_refused_by_name(
    start: Any, said: str, tmp_path: Path
):
    finish(tmp_path)
    with pytest.raises(ValueError, match=rf"dense.msgpack is of another .*{said}"):
        finish(tmp_path, start)


def test_two_runs_at_once_are_refused(tmp_path: Path):
    with runs.Run(tmp_path, Settings(), epochs=1):
        again = subprocess.run(
            [sys.executable, "-c", KILLED, str(tmp_path), "fsync", "0"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert f"another run is using {tmp_path}: wait" in again.stderr
        assert again.returncode == 1
    assert finish(tmp_path) == EXPECTED


def test_a_refused_run_gives_the_directory_back(tmp_path: Path):
    finish(tmp_path)
    with pytest.raises(ValueError, match="other settings"):
        runs.Run(tmp_path, Settings(seed=1), epochs=1)
    assert finish(tmp_path) == EXPECTED


def test_states_keep_their_dtypes(tmp_path: Path):
    """A row of every kind of leaf that optimizers keep, saved and gone on with."""
    state = {
        "a": jnp.arange(3, dtype=jnp.int32),
        "b": jnp.array(True),
        "c": [jnp.ones((2, 1), jnp.bfloat16)],
    }
    found: Any = None
    for _ in range(2):
        with runs.Run(tmp_path, Settings(), epochs=1) as run:
            found = run.phase("dense", state, 1, lambda state, _: (state, {}))
    for name in "ab":
        assert found[name].dtype == state[name].dtype
        np.testing.assert_array_equal(found[name], state[name])
    assert found["c"][0].dtype == jnp.bfloat16
