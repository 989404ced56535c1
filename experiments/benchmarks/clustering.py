"""One-dimensional clustering: time and squared error against other implementations.

    python -m experiments.benchmarks.clustering [--sizes N ...] [--clusters K ...]

Prints a Markdown table.  `ms` is the median over interleaved rounds, `speed` how many
times faster `kmeans.optimal` is, `error` the squared error over the least one found,
which is the optimum if an exact peer ran. Peers that are not installed are left out;
one that took longer than `--limit` is spared larger products of size and k.
"""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from deepcomp_jax import kmeans
from experiments.benchmarks import timing

Fit = Callable[[np.ndarray, int], np.ndarray]


def synthetic_weights(size: int, seed: int = 0) -> np.ndarray:
    """float32[size]: Gaussian values without those below 1.2 sigma in magnitude."""
    drawn = np.random.RandomState(seed).standard_normal(5 * size + 100)
    return drawn[np.abs(drawn) > 1.2][:size].astype(np.float32)


def _sklearn(package: Any, start: str) -> Fit:
    def fit(values: np.ndarray, k: int) -> np.ndarray:
        linear = np.linspace(values.min(), values.max(), k)[:, None]
        knobs = {"init": linear, "n_init": 1} if start == "linear" else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = package.KMeans(k, random_state=0, **knobs).fit(values[:, None])
        return model.cluster_centers_.ravel()

    return fit


def _ckwrap(package: Any) -> Fit:
    return lambda values, k: package.ckmeans(values.astype(np.float64), k).centers


def _kmeans1d(package: Any) -> Fit:
    return lambda values, k: np.array(package.cluster(values, k).centroids)


def peers() -> dict[str, Fit]:
    """The clusterings to compare, by name: ours first, then what is installed."""
    found: dict[str, Fit] = {
        "kmeans.optimal": kmeans.optimal,
        "kmeans.lloyd, linear": kmeans.lloyd,
        "kmeans.lloyd, density": lambda v, k: kmeans.lloyd(v, k, init="density"),
        "kmeans.lloyd, random": lambda v, k: kmeans.lloyd(v, k, init="random"),
    }
    others: dict[str, tuple[str, Callable[[Any], Fit]]] = {
        "scikit-learn, linear": ("sklearn.cluster", lambda p: _sklearn(p, "linear")),
        "scikit-learn, default": ("sklearn.cluster", lambda p: _sklearn(p, "default")),
        "ckwrap (exact)": ("ckwrap", _ckwrap),
        "kmeans1d (exact)": ("kmeans1d", _kmeans1d),
    }
    for name, (package, make) in others.items():
        if (module := timing.installed(package)) is not None:
            found[name] = make(module)
    return found


def measure(
    fits: dict[str, Fit], values: np.ndarray, k: int, *, rounds: int, limit: float
) -> dict[str, tuple[float, float]]:
    """Median seconds and squared error of every fit; slow ones run once."""
    times: dict[str, list[timing.Took]] = {name: [] for name in fits}
    errors: dict[str, float] = {}
    for _ in range(rounds):
        for name, fit in fits.items():
            if times[name] and times[name][0].wall > limit / rounds:
                continue
            centroids, took = timing.timed(partial(fit, values, k))
            times[name].append(took)
            errors[name] = kmeans.sse(values, np.unique(centroids))
    return {name: (timing.median(times[name]).wall, errors[name]) for name in fits}


def main() -> None:
    parser = timing.parser(__doc__, rounds=3)
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[11_000, 283_000, 2_260_654]
    )
    parser.add_argument("--clusters", type=int, nargs="+", default=[16, 32, 256])
    parser.add_argument("--limit", type=float, default=10.0, help="seconds")
    args = parser.parse_args()
    fits, slow = peers(), dict.fromkeys(peers(), np.inf)
    print("| values | k | clustering | ms | speed | error |\n|--|--|--|--|--|--|")
    for size in args.sizes:
        values = synthetic_weights(size)
        for k in args.clusters:
            chosen = {name: fit for name, fit in fits.items() if size * k < slow[name]}
            rows = measure(chosen, values, k, rounds=args.rounds, limit=args.limit)
            ours = rows["kmeans.optimal"][0]
            least = min(error for _, error in rows.values())
            for name, (seconds, error) in rows.items():
                print(
                    f"| {size:,} | {k} | {name} | {1000 * seconds:.1f} "
                    f"| {seconds / ours:.1f} | {error / least:.6f} |",
                    flush=True,
                )
                if seconds > args.limit:
                    slow[name] = min(slow[name], size * k)


if __name__ == "__main__":
    main()
