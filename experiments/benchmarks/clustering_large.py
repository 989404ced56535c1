"""Clustering and labels of one large leaf: time and memory against copying it.

    python -m experiments.benchmarks.clustering_large [--size N] [--k K] [--sklearn]

Prints a Markdown table. `CPU s` is the median over interleaved rounds of the CPU time
of all threads, to which other programs on the machine add less than to the time that
passes; `M/s` is millions of values in such a second, `copies` how many times longer
than copying the leaf it takes, `B/value` the most memory that NumPy holds at once
beside the leaf, in bytes a value. With `--sklearn`, scikit-learn's KMeans follows.
"""

import tracemalloc
from collections.abc import Callable

import ml_dtypes
import numpy as np

from deepcomp_jax import Rule, kmeans, share
from deepcomp_jax.rules import ShareMethod
from deepcomp_jax.share import nearest
from experiments.benchmarks import timing


def leaf(size: int, dtype: type) -> np.ndarray:
    """Gaussian weights of a usual scale."""
    drawn = np.random.default_rng(0).standard_normal(size, np.float32)
    return (drawn * np.float32(0.02)).astype(dtype)


def works(values: np.ndarray, k: int) -> dict[str, Callable[[], object]]:
    """What is measured, by name."""
    codebook = kmeans.optimal(values, k).astype(values.dtype)
    grid = share.uniform(0.035)(values, None).astype(values.dtype)

    def shared(method: ShareMethod) -> Callable[[], object]:
        return lambda: share.share({"w": values}, [Rule("w", share=method)])

    return {
        "copy": values.copy,
        "sort": lambda: np.sort(values),
        f"codebook, k-means {k}": lambda: kmeans.optimal(values, k),
        "codebook, k-means 256": lambda: kmeans.optimal(values, 256),
        "codebook, uniform(0.035)": lambda: share.uniform(0.035)(values, None),
        f"labels, {codebook.size} entries": lambda: nearest.labels(values, codebook),
        f"labels, {grid.size} entries": lambda: nearest.labels(values, grid),
        f"share.share, k-means {k}": shared(share.kmeans(k)),
        "share.share, uniform(0.035)": shared(share.uniform(0.035)),
    }


def peak_bytes(work: Callable[[], object]) -> int:
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def print_rows(values: np.ndarray, k: int, rounds: int) -> None:
    """One row for each work."""
    found = works(values, k)
    times = timing.in_turns(found, rounds)
    copy = timing.median(times["copy"]).cpu
    for name, work in found.items():
        own = timing.median(times[name]).cpu
        print(
            f"| {values.dtype} | {name} | {own:.3f} | {values.size / own / 1e6:.0f} "
            f"| {own / copy:.1f} | {peak_bytes(work) / values.size:.1f} |",
            flush=True,
        )


def print_sklearn(values: np.ndarray, k: int) -> None:
    """The peer, which finds labels too, once."""
    from sklearn.cluster import KMeans

    model = KMeans(k, random_state=0, n_init="auto")
    _, took = timing.timed(lambda: model.fit(values[:, None]))
    ours = kmeans.sse(values, kmeans.optimal(values, k))
    error = kmeans.sse(values, np.unique(model.cluster_centers_)) / ours
    print(
        f"scikit-learn's KMeans, k = {k}, {values.size:,} values of float32: "
        f"{took.cpu:.1f} CPU s, {error:.4f} times the squared error of k-means here."
    )


def main() -> None:
    parser = timing.parser(__doc__, rounds=3)
    parser.add_argument("--size", type=int, default=38_600_000)
    parser.add_argument("--k", type=int, default=16)
    parser.add_argument("--sklearn", action="store_true", help="takes minutes")
    args = parser.parse_args()
    print(f"{args.size:,} values\n")
    print("| dtype | work | CPU s | M/s | copies | B/value |\n|--|--|--|--|--|--|")
    for dtype in (np.float32, ml_dtypes.bfloat16):
        print_rows(leaf(args.size, dtype), args.k, args.rounds)
    if args.sklearn:
        print()
        print_sklearn(leaf(args.size, np.float32), args.k)


if __name__ == "__main__":
    main()
