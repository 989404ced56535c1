"""What networks gain when the units that do nothing are cut from them.

    python -m experiments.benchmarks.shrinking --cifar10 DIR --mnist DIR

Reads the files of VGG19 and of the two LeNets in `results/`, shrinks each network, and
times it beside the dense one that the file decodes to, both compiled, in turn. Writes
`results/shrink/results.json`: for each network and batch the medians, their ratio, that
of the operations that XLA counts, and whether both predict the same class of every test
image; and how many units each layer had and has.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import deepcomp_jax as dc
from experiments.data.cifar10 import cifar10
from experiments.data.mnist import mnist
from experiments.models import lenet, vgg
from experiments.training.train import normalize

RESULTS = Path(__file__).parent.parent / "results"
_FILES = {
    "VGG19, best/grid-2": "best/grid-2",
    "VGG19, best/grid-3": "best/grid-3",
    "LeNet-300-100, smallest": "lenet300-smallest",
    "LeNet-5, smallest": "lenet5-smallest",
}
_BATCHES = (64, 1)
_ROUNDS = 15
_SECONDS = 0.05  # that a round takes at least


class Pair(NamedTuple):
    """A network before and after, each with its variables."""

    dense: tuple[Callable[..., jax.Array], Any]
    shrunk: tuple[Callable[..., jax.Array], Any]
    widths: dict[str, tuple[int, int]]


def main() -> None:
    """Measures all networks and writes the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cifar10", type=Path, help="folder of CIFAR-10")
    parser.add_argument("--mnist", type=Path, help="folder of MNIST")
    parser.add_argument("--images", type=int, default=10_000, help="test images")
    parser.add_argument("--out", type=Path, default=RESULTS / "shrink")
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    widths: dict[str, dict[str, tuple[int, int]]] = {}
    for name, folder in _FILES.items():
        is_vgg = name.startswith("VGG")
        data = cifar10(args.cifar10) if is_vgg else mnist(args.mnist)
        images = normalize(jnp.asarray(data.test_images[: args.images]))
        pair = shrunk(folder, vgg if is_vgg else lenet, images[:2])
        widths[name] = pair.widths
        equal = predictions(*pair.dense, images) == predictions(*pair.shrunk, images)
        for batch in _BATCHES:
            row = timed(pair, images[:batch])
            both = {"network": name, "batch": batch, **row}
            rows.append({**both, "equal_predictions": bool(equal.all())})
            print(rows[-1], flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    result = {"images": args.images, "rows": rows, "widths": widths}
    text = json.dumps(result, indent=1)
    (args.out / "results.json").write_text(text + "\n")


def shrunk(folder: str, module: Any, images: jax.Array) -> Pair:
    """Loads a network and shrinks it.

    Args:
        folder: Where its file is in the results.
        module: Its module, with a function that makes it for variables of any width.
        images: A few images.
    """
    variables = dc.load(RESULTS / folder / "model.dcz")
    dense = module.rebuild(variables)
    smaller = dc.shrink.exact(
        dense.apply,
        variables,
        images,
        rebuild=lambda variables: module.rebuild(variables).apply,
    )
    narrow = module.rebuild(smaller.params)
    return Pair(
        (jax.jit(dense.apply), variables),
        (jax.jit(narrow.apply), smaller.params),
        dict(smaller.widths),
    )


def predictions(fn: Callable[..., Any], variables: Any, images: jax.Array) -> Any:
    """int[images]: the class of each image."""
    batches = np.array_split(np.asarray(images), -(-len(images) // 250))
    return np.concatenate([np.argmax(fn(variables, own), -1) for own in batches])


def timed(pair: Pair, images: jax.Array) -> dict[str, float]:
    """Milliseconds of both networks in turn, and the ratio of their operations."""
    runs = [_run(*own, images) for own in (pair.dense, pair.shrunk)]
    times = [[run() for run in runs] for _ in range(_ROUNDS)]
    dense, small = (statistics.median(own) for own in zip(*times, strict=True))
    counts = [_operations(*own, images) for own in (pair.dense, pair.shrunk)]
    return {
        "dense_ms": round(dense * 1e3, 4),
        "shrunk_ms": round(small * 1e3, 4),
        "ratio": round(dense / small, 2),
        "operations_ratio": round(counts[0] / counts[1], 2),
    }


def _run(
    fn: Callable[..., jax.Array], variables: Any, images: jax.Array
) -> Callable[[], float]:
    """Makes a function that tells the seconds of a call, over many of them."""
    variables = jax.tree.map(jnp.asarray, variables)
    fn(variables, images).block_until_ready()
    start = time.perf_counter()
    fn(variables, images).block_until_ready()
    calls = 1 + int(_SECONDS / (time.perf_counter() - start))

    def run() -> float:
        start = time.perf_counter()
        for _ in range(calls):
            fn(variables, images).block_until_ready()
        return (time.perf_counter() - start) / calls

    return run


def _operations(fn: Any, variables: Any, images: jax.Array) -> float:
    """Floating-point operations of a call as XLA counts them."""
    return fn.lower(variables, images).compile().cost_analysis()["flops"]


if __name__ == "__main__":
    main()
