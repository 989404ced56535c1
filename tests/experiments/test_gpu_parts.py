"""What a machine without a network needs: parts, loads, wheels, data."""

import json
import os
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from experiments.data import cifar10
from experiments.gpu import packing, parts, running
from tests.experiments import test_data

MOST = 200_000  # bytes of a load


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Path]:
    """Files: one that needs three parts, two that are alike, one without a byte."""
    rng = np.random.default_rng(0)
    large, small = rng.bytes(390_001), rng.bytes(1000)
    made = {"data/large": large, "wheels/a": small, "wheels/b": small, "empty": b""}
    for name, content in made.items():
        path = tmp_path / "sources" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return {name: tmp_path / "sources" / name for name in made}


def _loads(folder: Path) -> list[Path]:
    return sorted(folder.iterdir(), key=lambda load: int(load.name))


def _assert_there(folder: Path, sources: dict[str, Path]) -> None:
    for name, path in sources.items():
        assert (folder / name).read_bytes() == path.read_bytes(), name
    assert list((folder / ".parts").iterdir()) == []


def test_loads_are_small_and_each_part_travels_once(sources, tmp_path: Path):
    parts.pack(sources, tmp_path / "loads", MOST)
    loads = _loads(tmp_path / "loads")
    names = [path.name for load in loads for path in load.iterdir()]
    assert [load.name for load in loads] == ["1", "2", "3"]
    for load in loads:
        assert sum(path.stat().st_size for path in load.iterdir()) <= MOST
    # Three of the large file, one of both small ones, an empty one; three manifests.
    assert len(names) == 3 + 1 + 1 + 3
    assert len(set(names)) == 3 + 1 + 1 + 1


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_files_are_put_together_as_loads_come(order, sources, tmp_path: Path):
    parts.pack(sources, tmp_path / "loads", MOST)
    loads, there = _loads(tmp_path / "loads"), tmp_path / "there"
    coming = ["1", "2", "3"]
    for number in order:
        coming.remove(loads[number].name)
        assert parts.unpack([loads[number]], there) == coming
    _assert_there(there, sources)
    assert parts.unpack([], there) == []


def test_all_loads_at_once_by_their_folder(sources, tmp_path: Path):
    parts.pack(sources, tmp_path / "loads", MOST)
    assert parts.unpack([tmp_path / "loads"], tmp_path / "there") == []
    _assert_there(tmp_path / "there", sources)


def test_parts_that_are_there_are_not_needed_again(sources, tmp_path: Path):
    loads, there = tmp_path / "loads", tmp_path / "there"
    parts.pack(sources, loads, MOST)
    parts.unpack([loads], there)
    times = {path: path.stat().st_mtime_ns for path in loads.glob("*/*[0-9a-f]")}
    added = tmp_path / "sources" / "added"
    added.write_bytes(os.urandom(100_000))
    sources = sources | {"added": added}
    manifest = parts.pack(sources, loads, MOST)
    last = str(len(manifest.loads))

    new = [p for p in loads.glob("*/*[0-9a-f]") if times.get(p) != p.stat().st_mtime_ns]
    assert [path.parent.name for path in new if path.name != parts.MANIFEST] == [last]
    assert parts.unpack([loads / last], there) == []
    _assert_there(there, sources)


def test_what_is_packed_no_more_is_removed(sources, tmp_path: Path):
    parts.pack(sources, tmp_path / "loads", MOST)
    parts.pack({"wheels/a": sources["wheels/a"]}, tmp_path / "loads", MOST)
    (load,) = _loads(tmp_path / "loads")
    assert len(list(load.iterdir())) == 2


def test_a_file_that_changed_there_is_put_together_again(sources, tmp_path: Path):
    parts.pack(sources, tmp_path / "loads", MOST)
    parts.unpack([tmp_path / "loads"], tmp_path / "there")
    path = tmp_path / "there" / "wheels" / "a"
    path.write_bytes(bytes(len(path.read_bytes())))
    assert parts.unpack([], tmp_path / "there") == ["3"]
    assert parts.unpack([tmp_path / "loads" / "3"], tmp_path / "there") == []
    _assert_there(tmp_path / "there", sources)


def test_a_damaged_part_is_refused(sources, tmp_path: Path):
    parts.pack(sources, tmp_path / "loads", MOST)
    path = max((tmp_path / "loads" / "2").iterdir(), key=lambda p: p.stat().st_size)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=f"{path.name} was damaged on its way"):
        parts.unpack([tmp_path / "loads" / "2"], tmp_path / "there")


def test_loads_of_two_packs_are_refused(sources, tmp_path: Path):
    parts.pack(sources, tmp_path / "a", MOST)
    parts.pack({"empty": sources["empty"]}, tmp_path / "b", MOST)
    with pytest.raises(ValueError, match="are of different packs"):
        parts.unpack([tmp_path / "a", tmp_path / "b"], tmp_path / "there")


def test_a_folder_that_is_no_load(tmp_path: Path):
    with pytest.raises(ValueError, match="is no load, and none is in it"):
        parts.unpack([tmp_path], tmp_path / "there")


def test_no_file_goes_outside(sources, tmp_path: Path):
    parts.pack({"a": sources["empty"]}, tmp_path / "loads", MOST)
    path = tmp_path / "loads" / "1" / parts.MANIFEST
    fields = json.loads(path.read_text())
    fields["files"][0]["name"] = "../outside"
    path.write_text(json.dumps(fields))
    with pytest.raises(ValueError, match="names ../outside, outside of"):
        parts.unpack([tmp_path / "loads"], tmp_path / "there")
    assert not (tmp_path / "outside").exists()


# ---- what is packed -----------------------------------------------------------------


def _pack(tmp_path: Path, data_dir: Path | None, packages: list[str]) -> Path:
    packing.pack(
        tmp_path / "loads", data_dir=data_dir, packages=packages, python="3.12",
        glibc="2.28", most=1 << 20,
    )  # fmt: skip
    parts.unpack([tmp_path / "loads"], tmp_path / "there")
    return tmp_path / "there"


@pytest.mark.parametrize("form", test_data.FORMS)
def test_every_form_of_the_data_travels(form: str, tmp_path: Path):
    (tmp_path / "given").mkdir()
    there = _pack(tmp_path, test_data._write(form, tmp_path / "given"), [])
    dataset = cifar10.cifar10(there / "data", digests=test_data._digests())
    expected, _ = test_data._images("test_batch")
    np.testing.assert_array_equal(dataset.test_images, expected)


def test_no_data(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"holds neither .* nor the folder"):
        _pack(tmp_path, tmp_path, [])


def _wheel(folder: Path, name: str, needs: str = "") -> None:
    """A wheel of one module, which says its own name."""
    folder.mkdir(exist_ok=True)
    info = f"{name}-1.0.dist-info"
    needed = f"Requires-Dist: {needs}\n" if needs else ""
    members = {
        f"{name}/__init__.py": f"NAME = {name!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        + needed,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: me\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
    }
    record = "".join(f"{member},,\n" for member in [*members, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        for member, content in (members | {f"{info}/RECORD": record}).items():
            wheel.writestr(member, content)


def test_packages_travel_with_what_they_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As wheels, which are installed without a network."""
    _wheel(tmp_path / "index", "lacking_one", needs="lacking-two")
    _wheel(tmp_path / "index", "lacking_two")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    there = _pack(tmp_path, None, ["lacking_one"])
    monkeypatch.delenv("PIP_FIND_LINKS")

    work = tmp_path / "work"
    work.mkdir()
    there.rename(work / "inputs")
    monkeypatch.setattr(running, "_NEEDED", ("json", "lacking_one", "lacking_two"))
    paths = running._environment(work)["PYTHONPATH"].split(os.pathsep)
    assert str(work / "packages") in paths
    monkeypatch.syspath_prepend(str(work / "packages"))
    assert __import__("lacking_two").NAME == "lacking_two"
    assert "lacking_one" not in sys.modules


def test_a_package_that_was_not_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(running, "_NEEDED", ("json", "lacking_three"))
    with pytest.raises(RuntimeError, match="lacks lacking_three: pack again with"):
        running._environment(tmp_path)
