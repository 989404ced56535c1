"""Loading to a device: every coding and dtype, checked bit by bit and timed.

    python -m experiments.benchmarks.loading

Prints a row for each kind of leaf: its coding and dtype, bytes of the file, million
values a second of `dc.load` to NumPy, of `dc.load(device=)` to the first device of JAX,
and of decoding on that device from its coded form in memory (`dc.open(…).on_device()`,
inside `jit`). There are

    labels     16 values, 90 % of the weights zero, in each coding; booleans have one
    scaled     the same, with scales of rows and columns
    dense      the same values without labels, all of them or 90 % zero

Values that are not those of NumPy in every bit are an error; it is in the row, and in
the exit status. Rounds take turns, after one that is not counted, so that compiling is
not.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import deepcomp_jax as dc
from deepcomp_jax import codings
from deepcomp_jax._types import Compressed, DenseLeaf, Scales, SharedLeaf
from deepcomp_jax.format.dtypes import DTYPES, FLOATING, WORDS
from experiments.benchmarks import timing

_KEPT = 0.1


class Kind(NamedTuple):
    """A leaf to be loaded.

    Attributes:
        name: What it is.
        dtype: Of its values.
        network: The leaf alone.
    """

    name: str
    dtype: np.dtype
    network: Compressed


def main() -> None:
    """Measures and prints a table."""
    parser = timing.parser(__doc__, rounds=5)
    parser.add_argument("--side", type=int, default=2048, help="of a square leaf")
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)  # else values of 64 bits are narrowed
    place, wrong = jax.devices()[0], 0
    print(f"{place}, leaves of {args.side} x {args.side}; million values a second")
    print(f"{'':<18}{'dtype':<18}{'bytes':>10}{'NumPy':>9}{'device':>9}{'decoded':>9}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "leaf.dcz"
        for kind in kinds(args.side):
            size = dc.save(path, kind.network)
            try:
                times = seconds(path, place, args.rounds)
                told = "".join(f"{args.side**2 / 1e6 / took:9.1f}" for took in times)
            except (AssertionError, jax.errors.JaxRuntimeError) as error:
                wrong, told = wrong + 1, f"  {error}"
            name = f"{kind.name:<18}{kind.dtype.name:<18}"
            print(f"{name}{size:>10}{told}", flush=True)
    if wrong:
        sys.exit(f"{wrong} kinds of leaves are not as NumPy reads them")
    print("all values are those of NumPy, bit by bit")


def seconds(path: Path, place: Any, rounds: int) -> list[float]:
    """The median times of the three ways of loading a file.

    Raises:
        AssertionError: One of them gives other values.
    """
    with dc.open(path) as file:
        resident = file.on_device(place)
    decode = jax.jit(lambda leaf: leaf.decode())
    works: dict[str, Callable[[], Any]] = {
        "NumPy": lambda: dc.load(path)["w"],
        "device": lambda: jax.block_until_ready(dc.load(path, device=place)["w"]),
        "decoded": lambda: jax.block_until_ready(decode(resident["w"])),
    }
    expected = works["NumPy"]()
    for name, work in works.items():
        found = work()
        if name != "NumPy" and found.devices() != {place}:
            raise AssertionError(f"{name}: values are not on {place}")
        own = np.asarray(found)
        if own.dtype != expected.dtype or own.tobytes() != expected.tobytes():
            raise AssertionError(f"{name}: values are not those of NumPy")
    times = timing.in_turns(works, rounds)
    return [timing.median(times[name]).wall for name in works]


def kinds(side: int) -> Iterator[Kind]:
    """All leaves, of side x side values."""
    rng = np.random.default_rng(0)
    kept = rng.random((side, side)) < _KEPT
    drawn = rng.integers(1, 17, (side, side))
    for coding in codings.ALL:
        for dtype in (*FLOATING, *WORDS):
            book = _codebook(dtype)
            labels = np.where(kept, (drawn - 1) % book.size + 1, 0).astype(np.uint8)
            yield _kind(coding, SharedLeaf(labels, 0, coding), book)
            if dtype in FLOATING[:3]:
                scaled = SharedLeaf(labels, 0, coding, scales=_scales(rng, side))
                yield _kind(f"{coding}, scaled", scaled, book)
    for dtype in DTYPES:
        values = drawn.astype(dtype)
        yield _kind("dense", DenseLeaf(values), None)
        yield _kind(
            "dense, few", DenseLeaf(np.where(kept, values, 0).astype(dtype)), None
        )


def _codebook(dtype: np.dtype) -> np.ndarray:
    """Sixteen values, or as many as there are but zero, in the order of a file."""
    if dtype.kind == "b":
        return np.array([True])
    if dtype in WORDS:
        return np.arange(1, 17, dtype=np.uint8).view(dtype)
    return np.array([*range(-8, 0), *range(1, 9)], np.float32).astype(dtype)


def _scales(rng: np.random.Generator, side: int) -> Scales:
    exponents = rng.integers(-16, 17, (2, 1, side)).astype(np.int8)
    return Scales(0, 1, exponents[0], exponents[1])


def _kind(name: str, leaf: DenseLeaf | SharedLeaf, book: np.ndarray | None) -> Kind:
    books = () if book is None else (book,)
    stored = leaf.values if isinstance(leaf, DenseLeaf) else book
    assert stored is not None
    return Kind(name, stored.dtype, Compressed({"w": 0}, (leaf,), books))


if __name__ == "__main__":
    main()
