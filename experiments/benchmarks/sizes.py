"""Bytes of label tensors: our codings against zstd, xz and NNCodec, same labels.

    pip install zstandard
    python -m experiments.benchmarks.sizes --export labels.npz
    nncodec-env/bin/python experiments/benchmarks/nncodec_peer.py labels.npz sizes.json
    python -m experiments.benchmarks.sizes --nncodec sizes.json

Labels are those of the VGG19 in `results/cpu/model.dcz`, and of synthetic 512 x 4608
tensors: Laplacian weights, as they are or with log-normal scales (sigma 0.6) of rows
and columns as trained layers have, pruned to 90 % or 97 %, 16 centroids by k-means.
"""

import argparse
import importlib
import json
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from deepcomp_jax import codings, container, kmeans
from deepcomp_jax._types import Shared

NETWORK = Path(__file__).parent.parent / "results" / "cpu" / "model.dcz"
SHAPE = (512, 4608)


def main() -> None:
    """Exports the labels, or prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--export", type=Path, help="write the labels to this .npz")
    parser.add_argument("--nncodec", type=Path, help="sizes that nncodec_peer.py found")
    args = parser.parse_args()
    tensors = dict(network()) | dict(synthetic())
    if args.export:
        np.savez(args.export, **tensors)
        return
    sizes = json.loads(args.nncodec.read_text()) if args.nncodec else {"tensors": {}}
    print(f"{'tensor':<32}{'kept %':>8}{'ours':>10}{'coding':>10}", end="")
    print(f"{'/ ideal':>9}{'/ zstd':>8}{'/ xz':>8}{'/ NNCodec':>11}")
    total: dict[str, int] = {}
    for name, labels in tensors.items():
        row = measure(labels)
        row["nncodec"] = sizes["tensors"].get(name, {}).get("bytes", 0)
        _print(name, row)
        if name.startswith("params"):
            for key in ("size", "kept", "ours", "ideal", "zstd", "xz", "nncodec"):
                total[key] = total.get(key, 0) + row[key]
    _print("all of the VGG19", total | {"coding": ""})


def network() -> Iterator[tuple[str, np.ndarray]]:
    """Labels of the committed VGG19: signed, zero is a pruned weight, int32."""
    data = NETWORK.read_bytes()
    compressed = container.loads(data)
    entries = container.read_header(data).leaves
    for entry, leaf in zip(entries, compressed.leaves, strict=True):
        if isinstance(leaf, Shared) and entry.name.endswith("kernel"):
            codebook = compressed.codebooks[leaf.codebook]
            yield entry.name.replace("/", "."), signed(leaf.labels, codebook)


def synthetic() -> Iterator[tuple[str, np.ndarray]]:
    """Labels of the synthetic tensors."""
    rng = np.random.default_rng(0)
    weights = rng.laplace(size=SHAPE).astype(np.float32)
    rows, columns = (rng.lognormal(0, 0.6, size) for size in SHAPE)
    scaled = (weights * rows[:, None] * columns).astype(np.float32)
    for name, values in (("iid", weights), ("structured", scaled)):
        for sparsity in (0.9, 0.97):
            kept = np.abs(values) > np.quantile(np.abs(values), sparsity)
            codebook = kmeans.optimal(values[kept], 16)
            middle = (codebook[1:] + codebook[:-1]) / 2
            labels = np.where(kept, np.searchsorted(middle, values) + 1, 0)
            yield f"{name}-{sparsity:.0%}", signed(labels, codebook)


def signed(labels: np.ndarray, codebook: np.ndarray) -> np.ndarray:
    """Labels as NNCodec likes them: -1 is the first entry below zero, 1 above."""
    negatives = int(np.count_nonzero(codebook < 0))
    order = [0, *range(-negatives, 0), *range(1, codebook.size - negatives + 1)]
    return np.array(order, np.int32)[labels]


def measure(labels: np.ndarray) -> dict[str, Any]:
    """Bytes of one tensor in each coder."""
    below, above = -int(min(labels.min(), 0)), int(max(labels.max(), 0))
    leaf = codings.Leaf(labels.shape, below + above, below)
    flat = np.where(labels < 0, labels + below + 1, labels + (labels > 0) * below)
    flat = flat.ravel().astype(leaf.dtype)
    name, body = codings.encode(flat, leaf)
    measured = codings.ALL[name].measure(body, leaf)
    raw = flat.tobytes()
    return {
        "size": flat.size,
        "kept": int(np.count_nonzero(flat)),
        "ours": len(body),
        "coding": name,
        "ideal": (measured.ideal + measured.tables + measured.classes) / 8,
        "zstd": _zstd(raw),
        "xz": len(lzma.compress(raw, preset=9)),
    }


def _zstd(data: bytes) -> int:
    """Bytes of `zstd -19`, 0 where the package is not installed."""
    try:
        module = importlib.import_module("zstandard")
    except ImportError:
        return 0
    return len(module.ZstdCompressor(level=19).compress(data))


def _print(name: str, row: dict[str, Any]) -> None:
    print(f"{name:<32}{100 * row['kept'] / row['size']:>8.2f}", end="")
    print(f"{row['ours']:>10}{row['coding']:>10}", end="")
    for key, width in (("ideal", 9), ("zstd", 8), ("xz", 8), ("nncodec", 11)):
        text = f"{row['ours'] / row[key]:.4f}" if row[key] else "-"
        print(f"{text[: width - 1]:>{width}}", end="")
    print()


if __name__ == "__main__":
    main()
