"""Coding of leaves by the compiled loops, beside constriction's range coder.

    pip install constriction
    python -m experiments.benchmarks.coding_leaves

Prints, for each work, million weights a second of wall time and of CPU time, bytes, and
the speed over that of constriction's ANS coder with the same labels, in the same time:

    dense      16.8 million labels of four bits, in four leaves: what a file has for a
               leaf of so many; decoded to float32 and to bfloat16
    resnet     the 54 kernels of a ResNet-50, labels of four bits
    sparse     16.8 million labels in four leaves, 90 % of them zero, whose rows and
               columns are unequally dense; the search of classes is part of it
    small      10,000 leaves of 16 x 16, of multiples of a step

Leaves are shared out among two threads, those of constriction too. The rounds take
turns, after one that is not counted, so that compiling is not: the first line says how
long that took, and how many programs there are.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np

from deepcomp_jax import codings, device
from experiments.benchmarks import timing

_THREADS = 2
_PART = 2048, 2048
_ENTRIES = 16

Labeled = tuple[np.ndarray, codings.Leaf]


class Work(NamedTuple):
    """Something to be measured.

    Attributes:
        name: What it is.
        run: Does it for one leaf.
        leaves: What `run` gets, one after the other.
        weights: In all of them.
        size: Bytes of all bodies.
    """

    name: str
    run: Callable[[Any], Any]
    leaves: Sequence[Any]
    weights: int
    size: int


def main() -> None:
    """Measures and prints a table."""
    parser = timing.parser(__doc__, rounds=5)
    args = parser.parse_args()
    found: list[Work] = []
    for name in NETWORKS:
        of_network, seconds, programs = works(name)
        print(f"{name}: first time {seconds:.1f} s, {programs} programs to encode")
        found += of_network
    rounds = [[measure(work) for work in found] for _ in range(args.rounds)]
    print(f"{'':26}{'wall':>8}{'CPU':>8}{'bytes':>12}{'/ peer':>16}")
    medians = np.median(rounds, axis=0)
    peer = medians[0]
    for work, row in zip(found, medians, strict=True):
        ratio = f"{'':16}"
        if work.name.startswith("  constriction"):
            peer = row
        elif peer is not None:
            ratio = "".join(f"{value:8.2f}" for value in row / peer)
        speeds = "".join(f"{value:8.1f}" for value in row)
        print(f"{work.name:26}{speeds}{work.size:12}{ratio}")


def measure(work: Work) -> tuple[float, float]:
    """Million weights a second of wall time and of CPU time."""

    def all_leaves() -> None:
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(work.run, work.leaves))

    _, took = timing.timed(all_leaves)
    million = work.weights / 1e6
    return million / took.wall, million / took.cpu


# ---- leaves -------------------------------------------------------------------------


def _dense(rng: np.random.Generator, shape: tuple[int, ...]) -> Labeled:
    """Gaussian weights in 16 equal intervals of three deviations on both sides."""
    weights = rng.standard_normal(shape, np.float32)
    labels = np.clip(np.floor(weights * (8 / 3)) + 9, 1, _ENTRIES)
    leaf = codings.Leaf(shape, _ENTRIES, _ENTRIES // 2)
    return labels.astype(np.uint8).ravel(), leaf


def _sparse(rng: np.random.Generator, shape: tuple[int, int]) -> Labeled:
    """The same, of which the smallest are pruned; rows and columns have scales."""
    weights = rng.standard_normal(shape) * rng.lognormal(0, 0.5, (shape[0], 1))
    weights *= rng.lognormal(0, 0.5, shape[1])
    kept = np.abs(weights) > np.quantile(np.abs(weights), 0.9)
    labels = np.where(kept, np.clip(np.floor(weights) + 9, 1, _ENTRIES), 0)
    leaf = codings.Leaf(shape, _ENTRIES, _ENTRIES // 2)
    return labels.astype(np.uint8).ravel(), leaf


def _stepped(rng: np.random.Generator, shape: tuple[int, ...]) -> Labeled:
    """Gaussian weights as multiples of 0.07, the step of 3.5 % of their deviation."""
    factors = np.rint(rng.standard_normal(shape) / 0.07)
    entries = np.unique(factors[factors != 0])
    labels = np.where(factors == 0, 0, np.searchsorted(entries, factors) + 1)
    leaf = codings.Leaf(shape, entries.size, int((entries < 0).sum()))
    return labels.astype(leaf.dtype).ravel(), leaf


def _resnet50() -> list[tuple[int, ...]]:
    """The shapes of its kernels: He et al., arXiv 1512.03385, table 1."""
    shapes: list[tuple[int, ...]] = [(7, 7, 3, 64)]
    given = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            if not block:
                shapes.append((1, 1, given, 4 * width))
            shapes += [
                (1, 1, given, width),
                (3, 3, width, width),
                (1, 1, width, 4 * width),
            ]
            given = 4 * width
    return [*shapes, (2048, 1000)]


# What is measured, by name: leaves from a generator of random numbers.
NETWORKS: dict[str, Callable[[np.random.Generator], list[Labeled]]] = {
    "dense": lambda rng: [_dense(rng, _PART) for _ in range(4)],
    "resnet": lambda rng: [_dense(rng, shape) for shape in _resnet50()],
    "sparse": lambda rng: [_sparse(rng, _PART) for _ in range(4)],
    "small": lambda rng: [_stepped(rng, (16, 16)) for _ in range(10_000)],
}


# ---- coders -------------------------------------------------------------------------


def works(name: str) -> tuple[list[Work], float, int]:
    """Coding and decoding of the leaves of a network; all of it runs once.

    Args:
        name: One of `NETWORKS`.

    Returns:
        Works, those of constriction before what is compared with them; how long the
        first encoding took, in seconds; and how many programs were compiled for it.
    """
    leaves = NETWORKS[name](np.random.default_rng(0))
    weights = sum(labels.size for labels, _ in leaves)
    events: list[str] = []

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        del duration_secs
        if event.endswith("backend_compile_duration"):
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    bodies, took = timing.timed(lambda: [_encode(each) for each in leaves])
    jax.monitoring.unregister_event_duration_listener(listen)
    size = sum(len(body) for _, body in bodies)
    coded = [(*body, leaf) for body, (_, leaf) in zip(bodies, leaves, strict=True)]
    ours = [Work(f"{name}, encode", _encode, leaves, weights, size)]
    read: list[Work] = []
    for dtype in (np.float32, jnp.bfloat16):
        title = f"{name}, decode {np.dtype(dtype).name}"
        read.append(Work(title, _decoder(dtype), coded, weights, size))
        for body, (labels, _) in zip(coded, leaves, strict=True):
            back = np.asarray(read[-1].run(body)).ravel()
            if not np.array_equal(back.astype(np.int32), labels):
                raise AssertionError("labels do not come back")
    theirs = _constriction(leaves, weights) if name != "small" else ([], [])
    return [*theirs[0], *ours, *theirs[1], *read], took.wall, len(events)


def _encode(each: Any) -> tuple[str, bytes]:
    """Labels and their leaf to a body."""
    return codings.encode(*each, put=device.put_on_cpu)


def _decoder(dtype: Any) -> Callable[[tuple[str, bytes, codings.Leaf]], jax.Array]:
    """Labels to values equal to them, which bfloat16 has up to 256."""

    def decode(coded: tuple[str, bytes, codings.Leaf]) -> jax.Array:
        lookup = np.arange(coded[2].entries + 1).astype(dtype)
        flat = codings.decode(*coded, lookup, device.take_on_cpu)
        return jax.block_until_ready(device.to_device(flat))

    return decode


def _constriction(leaves: list[Labeled], weights: int) -> tuple[list[Work], list[Work]]:
    """Its ANS coder, with a model for each leaf; nothing if it is not installed."""
    constriction: Any = timing.installed("constriction")
    if constriction is None:
        return [], []
    ans = constriction.stream.stack.AnsCoder
    prepared, coded = [], []
    for labels, _ in leaves:
        shares = np.bincount(labels) / labels.size
        model = constriction.stream.model.Categorical(shares, perfect=False)
        prepared.append((labels.astype(np.int32), model))

    def encode(each: tuple[np.ndarray, Any]) -> np.ndarray:
        coder = ans()
        coder.encode_reverse(*each)
        return coder.get_compressed()

    def decode(each: tuple[np.ndarray, Any, int]) -> np.ndarray:
        return ans(each[0]).decode(*each[1:])

    for symbols, model in prepared:
        coded.append((encode((symbols, model)), model, symbols.size))
    size = sum(data.nbytes for data, *_ in coded)
    return (
        [Work("  constriction, encode", encode, prepared, weights, size)],
        [Work("  constriction, decode", decode, coded, weights, size)],
    )


if __name__ == "__main__":
    main()
