"""`dc.write`: the file that `save` writes, leaf after leaf, alone or as a set."""

import functools
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import deepcomp_jax as dc
from deepcomp_jax.api import streaming
from deepcomp_jax.format import parts, sets
from tests.support import laws, small_parts

KMEANS = dc.share.kmeans(5)
RULES = {
    "default": None,
    "lossless": [],
    "shared": [dc.Rule("kernel", share=KMEANS)],
    "grouped": [dc.Rule("kernel", share=KMEANS, group="all")],
    "groups": [dc.Rule("layers/(.)/kernel", share=KMEANS, group=r"\1")],
    "pruned": [dc.Rule("kernel", prune=dc.prune.by_erk(0.6), share=KMEANS)],
    "pruned alone": [dc.Rule("0/kernel", prune=dc.prune.by_magnitude(0.5))],
    "named": [dc.Rule("kernel", share=KMEANS, coding="relative")],
}


class Lazy:
    """A leaf that is made when it is asked for."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = values
        self.shape, self.dtype, self.size = values.shape, values.dtype, values.size

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self._values)


def _tree(seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    layers = [
        {
            "kernel": rng.normal(size=(30, 20)).astype(np.float32),
            "bias": rng.normal(size=20).astype(ml_dtypes.bfloat16),
        }
        for _ in range(4)
    ]
    layers[3]["kernel"] = layers[0]["kernel"].copy()
    return {"layers": layers, "steps": np.int64(7), "flags": np.zeros(9, bool)}


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
@pytest.mark.parametrize("lazy", [False, True])
def test_the_file_is_that_of_save(tmp_path: Path, rules: Any, lazy: bool):
    tree = _tree()
    dc.save(tmp_path / "a.dcz", dc.compress(tree, rules), metadata={"x": "y"})
    given = jax.tree.map(Lazy, tree) if lazy else tree
    size = dc.write(tmp_path / "b.dcz", given, rules, metadata={"x": "y"})
    assert (tmp_path / "a.dcz").read_bytes() == (tmp_path / "b.dcz").read_bytes()
    assert size == os.path.getsize(tmp_path / "b.dcz")
    assert sorted(os.listdir(tmp_path)) == ["a.dcz", "b.dcz"]


@settings(max_examples=15, deadline=None)
@given(
    rules=st.sampled_from([*RULES.values()]),
    files=st.integers(1, 5),
    most=st.sampled_from([50, parts.MOST]),
)
def test_a_set_is_the_network(
    tmp_path_factory: pytest.TempPathFactory, rules: Any, files: int, most: int
):
    folder = tmp_path_factory.mktemp("set")
    with small_parts.limited(most):
        expected = dc.loads(dc.dumps(dc.compress(_tree(), rules)))
        total = dc.write(folder / "m.dcz", _tree(), rules, files=files)
        names = sorted(os.listdir(folder))
        assert len(names) == files
        assert total == sum(os.path.getsize(folder / name) for name in names)
        for path in (folder / "m.dcz", folder / names[-1]):
            laws.assert_identical(dc.load(path), expected)
        found = dc.report(folder / "m.dcz")
        assert sum(found.total) == 8 * total == 8 * found.file_bytes
        leaves = dc.trees.named_leaves(expected)
        assert {tensor.name: tensor.kept for tensor in found.tensors} == {
            name: np.count_nonzero(leaf) for name, leaf in leaves.items()
        }
        with dc.open(folder / "m.dcz") as file:
            assert file.file_bytes == total
            laws.assert_identical(
                np.asarray(file["layers/2/kernel"]), expected["layers"][2]["kernel"]
            )


def test_each_process_writes_its_file_of_a_set(tmp_path: Path):
    """Two processes of one run of JAX, each with a file of its own."""
    program = textwrap.dedent(
        """
        import sys, socket
        import jax, numpy as np
        number, port, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3]
        jax.distributed.initialize(f"127.0.0.1:{port}", 2, number)
        import deepcomp_jax as dc
        from tests.api.test_streaming import RULES, _tree
        assert (jax.process_index(), jax.process_count()) == (number, 2)
        dc.write(
            f"{folder}/m.dcz", _tree(), RULES["shared"],
            files=jax.process_count(), file=jax.process_index(),
        )
        """
    )
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(number), port, str(tmp_path)],
            cwd=Path(__file__).parent.parent.parent,
            stderr=subprocess.PIPE,
        )
        for number in range(2)
    ]
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()
    assert sorted(os.listdir(tmp_path)) == [
        "m-00001-of-00002.dcz",
        "m-00002-of-00002.dcz",
    ]
    expected = dc.decompress(dc.compress(_tree(), RULES["shared"]))
    laws.assert_identical(dc.load(tmp_path / "m.dcz"), expected)


@pytest.mark.spec("C60")
def test_a_set_that_lacks_a_file_or_has_a_strange_one_is_rejected(tmp_path: Path):
    dc.write(tmp_path / "m.dcz", _tree(), [], files=3)
    first, second = (sets.path_of(tmp_path / "m.dcz", n, 3) for n in (1, 2))
    alone = first.read_bytes()
    with pytest.raises(dc.FormatError, match="in another file of the set"):
        dc.loads(alone)
    kept = second.read_bytes()
    second.write_bytes(alone)
    with pytest.raises(dc.FormatError, match="it must be in one"):
        dc.load(tmp_path / "m.dcz")
    dc.write(tmp_path / "o.dcz", {"other": np.zeros(3)}, [], files=3)
    second.write_bytes(sets.path_of(tmp_path / "o.dcz", 2, 3).read_bytes())
    with pytest.raises(dc.FormatError, match="their trees differ"):
        dc.load(tmp_path / "m.dcz")
    second.unlink()
    with pytest.raises(FileNotFoundError, match="m-00002-of-00003.dcz is missing"):
        dc.load(tmp_path / "m.dcz")
    second.write_bytes(kept)
    laws.assert_identical(dc.load(tmp_path / "m.dcz"), _tree())


@pytest.mark.parametrize("before", [1, 2, 3])
@pytest.mark.parametrize("after", [1, 2, 3])
@pytest.mark.parametrize("apart", [False, True])
def test_what_was_written_last_is_read(
    before: int, after: int, apart: bool, tmp_path: Path
):
    """Whatever was there, and whether one process writes or several."""
    path, other = tmp_path / "m[1].dcz", tmp_path / "m[1]-2.dcz"
    dc.write(other, _tree(), [], files=2)
    dc.write(path, {"a": np.ones(3), "b": np.ones(4)}, [], files=before)
    tree = {"a": np.zeros(3), "b": np.zeros(4)}
    for number in range(after) if apart else [None]:
        dc.write(path, tree, [], files=after, file=number)
    laws.assert_identical(dc.load(path), tree)
    laws.assert_identical(dc.load(other), _tree())
    if after > 1:
        assert sum("-2-" not in name for name in os.listdir(tmp_path)) == after


def test_sets_of_two_counts_are_told_apart(tmp_path: Path):
    """As they are where the first of several processes has not ended yet."""
    first, last = (
        {"a": np.ones(3), "b": np.ones(4)},
        {"a": np.zeros(3), "b": np.ones(4)},
    )
    dc.write(tmp_path / "m.dcz", first, [], files=3)
    dc.write(tmp_path / "m.dcz", last, [], files=2, file=1)
    with pytest.raises(
        ValueError, match="the name of two sets, of .*-of-00002.dcz and"
    ):
        dc.load(tmp_path / "m.dcz")
    laws.assert_identical(dc.load(tmp_path / "m-00002-of-00003.dcz"), first)


@pytest.mark.parametrize(("files", "file"), [(0, None), (2, 2), (2, -1), (10**6, 0)])
def test_there_is_no_such_file_of_a_set(tmp_path: Path, files: int, file: Any):
    with pytest.raises(ValueError, match="a set has 1 to"):
        dc.write(tmp_path / "m.dcz", _tree(), files=files, file=file)


@pytest.mark.spec("C43")
def test_an_error_in_the_middle_leaves_what_was_there(tmp_path: Path):
    path = tmp_path / "m.dcz"
    path.write_bytes(b"before")
    tree = _tree()
    tree["layers"][2]["kernel"][3, 4] = np.nan
    with pytest.raises(ValueError, match="layers/2/kernel"):
        dc.write(path, tree, RULES["shared"])
    with pytest.raises(ValueError, match="has no effect"):
        dc.write(path, _tree(), [dc.Rule("bias", coding="order0")])
    with pytest.raises(RuntimeError, match="stop"):
        dc.write(path, _tree(), [], progress=_stop)
    assert path.read_bytes() == b"before" and os.listdir(tmp_path) == ["m.dcz"]


def _stop(*_: int) -> None:
    raise RuntimeError("stop")


def test_a_full_disk_names_the_file(tmp_path: Path):
    with pytest.raises(OSError, match="not a regular file"):
        dc.write("/dev/full", _tree())


def test_progress_counts_leaves_and_bytes(tmp_path: Path):
    told: list[tuple[int, ...]] = []
    size = dc.write(
        tmp_path / "m.dcz", _tree(), [], progress=lambda *now: told.append(now)
    )
    done, leaves, read, written = zip(*told, strict=True)
    assert list(done) == list(range(1, 11)) and set(leaves) == {10}
    assert list(read) == sorted(read) and list(written) == sorted(written)
    assert read[-1] == sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(_tree()))
    assert size > written[-1] > 0


def test_a_leaf_is_written_before_the_next_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(streaming, "_AT_ONCE", 1)
    read: list[int] = []

    class Told(Lazy):
        def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
            read.append(1)
            return super().__array__(dtype, copy)

    tree = {f"w{i}": Told(np.full((4, 4), i, np.float32)) for i in range(5)}
    seen: list[tuple[int, int]] = []
    dc.write(
        tmp_path / "m.dcz",
        tree,
        [],
        progress=lambda done, *_: seen.append((done, len(read))),
    )
    assert seen == [(i, i) for i in range(1, 6)]


def test_rules_of_one_group_are_refused_as_they_are_by_compress(tmp_path: Path):
    tree = {"a": np.ones((2, 3), np.float32), "b": np.ones((2, 3), np.float32)}
    rules = [
        dc.Rule(name, share=dc.share.kmeans(2), group="all") for name in ("a", "b")
    ]
    for work in (dc.compress, functools.partial(dc.write, tmp_path / "m.dcz")):
        with pytest.raises(ValueError, match="'all' has leaves of two rules"):
            work(tree, rules)
    assert not os.listdir(tmp_path)
