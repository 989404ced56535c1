"""Trees such as checkpoints have, and leaves that tell when they are read."""

import gc
import weakref
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from hypothesis import strategies as st

BUILTIN = [
    np.dtype(name)
    for name in (
        *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32"),
        *("uint64", "float16", "float32", "float64", "complex64"),
    )
]
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOAT8 = [np.dtype(ml_dtypes.float8_e4m3fn), np.dtype(ml_dtypes.float8_e5m2)]
OF_FORMAT = {
    "safetensors": [*BUILTIN, BFLOAT16, *FLOAT8],
    "safetensors-sharded": [*BUILTIN, BFLOAT16, *FLOAT8],
    "npz": [*BUILTIN, BFLOAT16, np.dtype("complex128")],
    "msgpack": [*BUILTIN, BFLOAT16, *FLOAT8, np.dtype("complex128")],
    "orbax": [*BUILTIN, BFLOAT16, *FLOAT8],
    "dcz": [*BUILTIN, BFLOAT16, *FLOAT8, np.dtype("complex128")],
}
PATHS = {
    "safetensors": "m.safetensors",
    "safetensors-sharded": "sharded",
    "npz": "m.npz",
    "msgpack": "m.msgpack",
    "orbax": "orbax",
    "dcz": "m.dcz",
}


@st.composite
def arrays(draw: st.DrawFn, dtypes: list[np.dtype]) -> np.ndarray:
    """Arrays of any bits, of 0 to 3 axes, some of them empty, in either order."""
    dtype = draw(st.sampled_from(dtypes))
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    size = int(np.prod(shape, dtype=int)) * dtype.itemsize
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    raw = rng.integers(0, 2 if dtype.kind == "b" else 256, size, np.uint8)
    values = raw.view(dtype).reshape(shape)
    return np.asarray(values, order=draw(st.sampled_from("CF")))


def keys() -> st.SearchStrategy[str]:
    """Keys that checkpoints have, and those that they better had not."""
    usual = st.sampled_from(["params", "encoder.layer.0", "kernel", "a b", "0", "10"])
    strange = st.sampled_from(["\x1b[31m", "line\nbreak", "ä" * 400, "x" * 1000, '"'])
    free = st.text(st.characters(exclude_characters="/.\0", codec="utf-8"), max_size=8)
    return usual | strange | free.filter(lambda key: key != "__metadata__")


def trees(format: str) -> st.SearchStrategy[dict[str, Any]]:
    """Dictionaries of arrays, flat or in each other."""
    leaf = arrays(OF_FORMAT[format])
    inner = st.dictionaries(keys(), leaf, min_size=1, max_size=3)
    short = st.sampled_from(["params", "encoder", "a.b", "\t"])
    return st.dictionaries(keys(), leaf, max_size=4) | st.dictionaries(
        short, inner, max_size=3
    )


def metadata() -> st.SearchStrategy[dict[str, str]]:
    """Strings by name."""
    text = st.text(st.characters(codec="utf-8"), max_size=10)
    return st.dictionaries(text, text, max_size=3)


class Counted:
    """A leaf that is made when it is asked for, and counts arrays that are alive."""

    alive: weakref.WeakSet[np.ndarray] = weakref.WeakSet()
    most = 0

    def __init__(self, shape: tuple[int, ...], dtype: str = "float32") -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)
        self.size = int(np.prod(shape))
        self.reads = 0

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        gc.collect()
        self.reads += 1
        values = np.full(self.shape, self.reads, self.dtype).view(_Array)
        Counted.alive.add(values)  # type: ignore[arg-type]
        Counted.most = max(Counted.most, len(Counted.alive))
        return values


class _Array(np.ndarray):
    """An array that a set can hold weakly."""

    __hash__ = object.__hash__  # type: ignore[assignment]


def size_on_disk(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
