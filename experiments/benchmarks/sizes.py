"""Bytes and speeds on label tensors: our codings against zstd, xz and NNCodec.

    pip install zstandard
    python -m experiments.benchmarks.sizes --nncodec nncodec-env/bin/python

`nncodec_peer.py` says how to make that environment; without it, its columns are empty.
The labels are those of the VGG19 in `results/cpu/model.dcz`; of synthetic 512 x 4608
tensors: Laplacian weights, as they are or with log-normal scales (sigma 0.6) of rows
and columns as trained layers have, pruned to 90 % or 97 %, 16 centroids by k-means; and
of 4096 x 4096 Laplacian weights, pruned to 90 %, for the speeds.

Prints a table of bytes; the bytes of the whole VGG19 file; million labels a second; and
the same of decoding 1500 x 1500 labels in every coding to values of every dtype.
Ours are encoded with the choice of a coding, on the host, and decoded to float32 values
by NumPy and by JAX. Those of NNCodec are decoded to labels. Each coder runs alone.
"""

import functools
import json
import lzma
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import deepcomp_jax as dc
from deepcomp_jax import codings, device, kmeans
from deepcomp_jax._types import SharedLeaf
from deepcomp_jax.format import container
from experiments.benchmarks import timing

NETWORK = Path(__file__).parent.parent / "results" / "cpu" / "model.dcz"
_PEER = Path(__file__).with_name("nncodec_peer.py")
_SHAPE = (512, 4608)
_LARGE = (4096, 4096)
_SLOW = 1 << 20  # labels from which a tensor is timed
_ROUNDS = 3
_SIDE = 1500  # rows and columns of the labels that are decoded to every dtype
_DTYPES = ("float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")

Tensors = dict[str, np.ndarray]


class Message(NamedTuple):
    """Labels as our codings take them.

    Attributes:
        labels: uint[size].
        leaf: What is known of them.
    """

    labels: np.ndarray
    leaf: codings.Leaf


def main() -> None:
    """Measures and prints the tables."""
    parser = timing.parser(__doc__)
    parser.add_argument("--nncodec", type=Path, help="Python that has NNCodec")
    args = parser.parse_args()
    vgg, made = dict(network()), dict(synthetic())
    peers = {
        name: nncodec(args.nncodec, tensors) if args.nncodec else {"tensors": {}}
        for name, tensors in (("vgg", vgg), ("made", made))
    }
    rows = peers["vgg"]["tensors"] | peers["made"]["tensors"]
    _print_sizes(vgg | made, rows)
    _print_file(peers["vgg"].get("whole"))
    _print_speeds(made, rows)
    _print_dtypes(made["large-iid-90%"][:_SIDE, :_SIDE])


# ---- labels -------------------------------------------------------------------------


def network() -> Iterator[tuple[str, np.ndarray]]:
    """Labels of the committed VGG19: signed, zero is a pruned weight, int32."""
    data = NETWORK.read_bytes()
    compressed = container.loads(data)
    entries = container.read_header(data).leaves
    for entry, leaf in zip(entries, compressed.leaves, strict=True):
        if isinstance(leaf, SharedLeaf) and leaf.labels.size:
            codebook = compressed.codebooks[leaf.codebook]
            yield entry.name.replace("/", "."), signed(leaf.labels, codebook)


def synthetic() -> Iterator[tuple[str, np.ndarray]]:
    """Labels of the synthetic tensors."""
    rng = np.random.default_rng(0)
    weights = rng.laplace(size=_SHAPE).astype(np.float32)
    rows, columns = (rng.lognormal(0, 0.6, size) for size in _SHAPE)
    scaled = (weights * rows[:, None] * columns).astype(np.float32)
    for name, values in (("iid", weights), ("structured", scaled)):
        for sparsity in (0.9, 0.97):
            yield f"{name}-{sparsity:.0%}", pruned(values, sparsity)
    yield "large-iid-90%", pruned(rng.laplace(size=_LARGE).astype(np.float32), 0.9)


def pruned(values: np.ndarray, sparsity: float) -> np.ndarray:
    """Labels of what magnitude pruning keeps, in 16 clusters."""
    kept = np.abs(values) > np.quantile(np.abs(values), sparsity)
    codebook = kmeans.optimal(values[kept], 16)
    middle = (codebook[1:] + codebook[:-1]) / 2
    labels = np.where(kept, np.searchsorted(middle, values) + 1, 0)
    return signed(labels, codebook)


def signed(labels: np.ndarray, codebook: np.ndarray) -> np.ndarray:
    """Labels as NNCodec likes them: -1 is the first entry below zero, 1 above."""
    negatives = int(np.count_nonzero(codebook < 0))
    order = [0, *range(-negatives, 0), *range(1, codebook.size - negatives + 1)]
    return np.array(order, np.int32)[labels]


def message(labels: np.ndarray) -> Message:
    """Signed labels as our codings take them."""
    below, above = -int(min(labels.min(), 0)), int(max(labels.max(), 0))
    leaf = codings.Leaf(labels.shape, below + above, below)
    flat = np.where(labels < 0, labels + below + 1, labels + (labels > 0) * below)
    return Message(flat.ravel().astype(leaf.dtype), leaf)


# ---- bytes --------------------------------------------------------------------------


def nncodec(python: Path, tensors: Tensors) -> dict[str, Any]:
    """Bytes and seconds of NNCodec, as `nncodec_peer.py` writes them."""
    with tempfile.TemporaryDirectory() as folder:
        labels, table = Path(folder, "labels.npz"), Path(folder, "table.json")
        np.savez(labels, allow_pickle=False, **tensors)
        subprocess.run([python, _PEER, labels, table], check=True, capture_output=True)
        return json.loads(table.read_text())


def measure(labels: np.ndarray) -> dict[str, Any]:
    """Bytes of one tensor in each coder but NNCodec."""
    flat, leaf = message(labels)
    name, body = codings.encode(flat, leaf)
    measured, _ = codings.ALL[name].measure(body, leaf)
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
    module: Any = timing.installed("zstandard")
    if module is None:
        return 0
    return len(module.ZstdCompressor(level=19).compress(data))


def _print_sizes(tensors: Tensors, peers: dict[str, Any]) -> None:
    print(f"{'tensor':<32}{'kept %':>8}{'ours':>10}{'coding':>10}", end="")
    print(f"{'/ ideal':>9}{'/ zstd':>8}{'/ xz':>8}{'/ NNCodec':>11}")
    total: dict[str, Any] = {"coding": ""}
    for name, labels in tensors.items():
        if not name.endswith(("kernel", "%")):
            continue
        row = measure(labels) | {"nncodec": peers.get(name, {}).get("bytes", 0)}
        _print_row(name, row)
        if name.startswith("params"):
            for key in row.keys() - {"coding"}:
                total[key] = total.get(key, 0) + row[key]
    _print_row("kernels of the VGG19", total)


def _print_row(name: str, row: dict[str, Any]) -> None:
    print(f"{name:<32}{100 * row['kept'] / row['size']:>8.2f}", end="")
    print(f"{row['ours']:>10}{row['coding']:>10}", end="")
    for key, width in (("ideal", 9), ("zstd", 8), ("xz", 8), ("nncodec", 11)):
        text = f"{row['ours'] / row[key]:.4f}" if row[key] else "-"
        print(f"{text[: width - 1]:>{width}}", end="")
    print()


def _print_file(whole: dict[str, Any] | None) -> None:
    """The file beside one bitstream of NNCodec for all its labels, and codebooks."""
    account = dc.report(NETWORK)
    codebooks = account.total.codebook // 8
    size = len(container.dumps(container.loads(NETWORK.read_bytes())))
    print(f"\nwhole VGG19 file: {size} bytes", end="")
    if whole:
        peer = whole["bytes"]
        print(f"; NNCodec {peer} and codebooks {codebooks}", end="")
        print(f": {size / (peer + codebooks):.4f}", end="")
    print()


# ---- speeds -------------------------------------------------------------------------


def _print_speeds(tensors: Tensors, peers: dict[str, Any]) -> None:
    print(f"\nmillion labels a second, {jax.devices()}, and over NNCodec")
    columns = "encode", "decode, NumPy", "decode, JAX", "NNCodec", "decode"
    print(f"{'tensor':<20}" + "".join(f"{name:>18}" for name in columns))
    for name, labels in tensors.items():
        if labels.size < _SLOW:
            continue
        million = labels.size / 1e6
        peer = peers.get(name)
        theirs = [
            million / peer[f"{verb}_seconds"] if peer else 0.0
            for verb in ("encode", "decode")
        ]
        against = [theirs[0], theirs[1], theirs[1]]
        cells = [
            f"{million / taken:.1f}" + (f" = x{million / taken / by:.1f}" if by else "")
            for taken, by in zip(seconds(message(labels)), against, strict=True)
        ]
        cells += [f"{speed:.1f}" if speed else "-" for speed in theirs]
        print(f"{name:<20}" + "".join(f"{cell:>18}" for cell in cells))


def seconds(labels: Message) -> list[float]:
    """Of encoding, and of decoding to values by NumPy and by JAX."""
    flat, leaf = labels
    lookup = np.arange(leaf.entries + 1, dtype=np.float32)
    coding, body = codings.encode(flat, leaf)
    coders: list[Callable[[], Any]] = [
        lambda: codings.encode(flat, leaf),
        lambda: codings.decode(coding, body, leaf, lookup),
        lambda: _on_device(coding, body, leaf, lookup),
    ]
    return [_time(coder) for coder in coders]


def _print_dtypes(labels: np.ndarray) -> None:
    """Speeds of decoding by JAX, of all codings and dtypes."""
    flat, leaf = message(labels)
    print("\nmillion labels a second, decoded by JAX")
    print(f"{'dtype':<20}" + "".join(f"{name:>18}" for name in codings.ALL))
    bodies = {name: codings.encode(flat, leaf, name)[1] for name in codings.ALL}
    for dtype in _DTYPES:
        lookup = np.arange(leaf.entries + 1).astype(dtype)
        taken = [
            _time(functools.partial(_on_device, name, body, leaf, lookup))
            for name, body in bodies.items()
        ]
        speeds = "".join(f"{labels.size / 1e6 / each:>18.1f}" for each in taken)
        print(f"{dtype:<20}{speeds}")


def _time(coder: Callable[[], Any]) -> float:
    """Median seconds of a few calls, after one that may compile."""
    works = {"": lambda: jax.block_until_ready(coder())}
    return timing.median(timing.in_turns(works, _ROUNDS + 1)[""][1:]).wall


def _on_device(coding: str, body: bytes, leaf: codings.Leaf, lookup: Any) -> Any:
    """A body decoded by compiled loops, on the device."""
    flat = codings.decode(coding, body, leaf, lookup, device.take_on_cpu)
    return device.to_device(flat)


if __name__ == "__main__":
    main()
