"""Work within a process, for the benchmark of the tool: prints rows as JSON.

    python -m experiments.benchmarks.tool_work labels dense

What is measured has run once before, unless it says "first"; times are medians of
rounds, in which a peer takes its turns. Linux only: memory is what the system says.
"""

import ctypes
import gc
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks import timing

_ROUNDS = 5
_VALUES = 1 << 24
_LARGE = 38_600_000
_MANY = 10_000

Found = dict[str, Any]


def main() -> None:
    """Does what the arguments say."""
    works: dict[str, Callable[..., list[Found]]] = {
        "labels": labels,
        "choice": choice,
        "kmeans": kmeans,
        "many": many,
    }
    print(json.dumps(works[sys.argv[1]](*sys.argv[2:])))


def labels(name: str) -> list[Found]:
    """Coding of labels by the compiled loops, beside constriction's ANS coder."""
    from experiments.benchmarks import coding_leaves

    works, first, programs = coding_leaves.works(name)
    rounds = [[coding_leaves.measure(work) for work in works] for _ in range(_ROUNDS)]
    found: list[Found] = []
    peer: float | None = None
    for work, speeds in zip(works, np.median(rounds, axis=0), strict=True):
        median, cpu = (float(work.weights / 1e6 / speed) for speed in speeds)
        if work.name.startswith("  constriction"):
            peer = median
            continue
        own: Found = {"work": work.name, "seconds": median, "cpu_seconds": cpu}
        own |= {"bytes": work.size, "values": work.weights}
        if "encode" in work.name:
            own["note"] = f"first time {first:.1f} s"
            own["programs"] = programs
        if peer is not None:
            own |= {"peer": "constriction's ANS", "ratio": peer / median}
        _, memory = _with_memory(lambda work=work: coding_leaves.measure(work))
        found.append(own | memory)
    return found


def choice() -> list[Found]:
    """Rate-distortion labels on a grid of 31 entries; the choice alone, and all."""
    import deepcomp_jax as dc
    from deepcomp_jax.codings import Leaf
    from deepcomp_jax.rate import choice, multiples

    rng = np.random.default_rng(0)
    weights = rng.standard_normal((4096, 4096), np.float32).clip(-4.4, 4.4)
    codebook = multiples(0.29)(weights.ravel(), None).astype(np.float32)
    codebook = codebook[codebook != 0]
    entries = np.append(np.float32(0), codebook)
    near = choice.nearest(weights.ravel(), codebook)
    one, none = np.array(1, np.float32), np.array(0, np.uint8)
    known = choice.Weights(weights.ravel(), one, near, none)
    leaf = Leaf(weights.shape, codebook.size, int((codebook < 0).sum()))
    tree = {"w": weights}
    rule = dc.Rule("w", share=dc.rate.grid(0.29))
    shared = dc.share.share(tree, [rule])
    bit = dc.rate.lambda_for_step(0.29, 1.0)
    size = f"{codebook.size} entries"
    return [
        _timed(
            f"rate-distortion choice, {size}",
            lambda: choice.labels(known, entries, bit, leaf),
            _VALUES,
        ),
        _timed(
            f"rate.rdoq, {size}",
            lambda: dc.rate.rdoq(shared, tree, rd_lambda=bit),
            _VALUES,
        ),
    ]


def kmeans(dtype: str) -> list[Found]:
    """Clustering and labels of one large leaf."""
    import deepcomp_jax as dc
    from deepcomp_jax.checkpoints.leaves import dtype_of

    drawn = np.random.default_rng(0).standard_normal(_LARGE, np.float32)
    values = (drawn * np.float32(0.02)).astype(dtype_of(dtype))
    rule = dc.Rule("w", share=dc.share.kmeans(16))
    return [
        _timed(
            f"k-means and labels, {dtype}",
            lambda: dc.share.share({"w": values}, [rule]),
            _LARGE,
        )
    ]


def many(step: str, path: str) -> list[Found]:
    """A network of many small leaves, the first time that this is done."""
    import deepcomp_jax as dc

    rng = np.random.default_rng(0)
    drawn = rng.standard_normal((_MANY, 16, 16), np.float32)
    tree = {f"layer_{i}": {"kernel": own} for i, own in enumerate(drawn)}
    work: dict[str, Callable[[], Any]] = {
        "compress + save": lambda: dc.save(path, dc.compress(tree)),
        "load": lambda: dc.load(path),
        "report": lambda: dc.report(path),
    }
    dc.load  # noqa: B018  imports are no part of what is measured
    seconds, memory = _with_memory(work[step])
    row: Found = {"work": f"10,000 leaves of 16 x 16, {step}"} | seconds
    return [row | {"bytes": Path(path).stat().st_size} | memory]


def _timed(name: str, work: Callable[[], Any], values: int) -> Found:
    _, memory = _with_memory(work)
    took = timing.median(timing.in_turns({name: work}, _ROUNDS)[name])
    return {"work": name, "values": values} | _seconds(took) | memory


def _seconds(took: timing.Took) -> dict[str, float]:
    """The fields of a row."""
    return {"seconds": took.wall, "cpu_seconds": took.cpu}


def _with_memory(work: Callable[[], Any]) -> tuple[dict[str, float], Found]:
    """Seconds, and the most memory that the process had meanwhile, in bytes."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what is free is given back, and counted again
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what there is
    start = _memory("VmRSS")
    result, took = timing.timed(work)
    peak = _memory("VmHWM")
    del result
    return _seconds(took), {"peak_bytes": peak, "above_bytes": peak - start}


def _memory(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith(field))
    return 1024 * int(line.split()[1])


if __name__ == "__main__":
    main()
