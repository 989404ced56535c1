"""Entropy coding: our streams and codings of tensors beside other coders.

    pip install constriction dahuffman zstandard
    python -m experiments.benchmarks.coding --size 10000000

Prints, for each coder, million symbols a second and the size over the entropy; and the
speeds over those of our NumPy coder, measured in the same run. There are two messages:

    indices   5-bit cluster indices of Gaussian weights without their middle
    tensor    labels of 4096 x 4096 Gaussian weights, of which 90 % are pruned and the
              others have 16 values; ours are encoded with the choice of a coding, and
              decoded to float32 values, those of peers to labels

all independent of each other. Coders that work symbol by symbol in Python get a shorter
message. A peer that is not installed is reported as absent. The coders take turns,
several rounds after one that is not counted, so that compiling is not; the table has
the medians.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from deepcomp_jax import codings, device
from deepcomp_jax.streams import huffman
from experiments.benchmarks import timing

_CLUSTERS = 32
_ENTRIES = 16  # of the codebook of the tensor, half of them negative
_SLOW = 200_000  # symbols for a coder that takes microseconds for each


class Coder(NamedTuple):
    """A coder to be measured.

    Attributes:
        encode: Symbols, uint16[n], to anything.
        decode: What `encode` made, to n symbols.
        size: What `encode` made, to its size in bytes.
        most: The most symbols it is given.
    """

    encode: Callable[[np.ndarray], Any]
    decode: Callable[[Any, int], Any]
    size: Callable[[Any], int] = len
    most: int = 1 << 62


def main() -> None:
    """Measures and prints a table."""
    parser = timing.parser(__doc__, rounds=5)
    parser.add_argument("--size", type=int, default=10_000_000)
    parser.add_argument("--side", type=int, default=4096)
    args = parser.parse_args()
    print(jax.devices())
    for symbols, ours in (
        (_labels(args.size), _streams()),
        (_tensor(args.side), _codings((args.side, args.side))),
    ):
        counts = np.bincount(symbols)
        coders = ours | _peers(counts)
        print(f"\n{symbols.size} symbols, entropy {_entropy(counts):.3f} bits")
        rows = [
            {name: _measure(coder, symbols) for name, coder in coders.items() if coder}
            for _ in range(args.rounds + 1)
        ]
        _print(coders, rows[1:])


def _labels(size: int) -> np.ndarray:
    """Indices of Gaussian weights with |w| > 1.2 in 32 equal intervals, uint16."""
    rng = np.random.default_rng(0)
    tail = rng.standard_normal(5 * size + 100, np.float32)
    kept = tail[np.abs(tail) > 1.2][:size]
    edges = np.linspace(kept.min(), kept.max(), _CLUSTERS + 1)[1:-1]
    return np.searchsorted(edges.astype(np.float32), kept).astype(np.uint16)


def _tensor(side: int) -> np.ndarray:
    """Labels of Gaussian weights, of which 90 % are zero, uint8[side**2]."""
    weights = np.random.default_rng(0).standard_normal(side * side, np.float32)
    sizes = np.abs(weights)
    least = np.quantile(sizes[: 1 << 20], 0.9)
    tops = np.linspace(least, sizes.max(), _ENTRIES // 2 + 1)[1:-1].astype(np.float32)
    positive = _ENTRIES // 2 + 1 + np.searchsorted(tops, sizes)
    labels = np.where(weights > 0, positive, _ENTRIES + 1 - positive)
    return np.where(sizes > least, labels, 0).astype(np.uint8)


def _entropy(counts: np.ndarray) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def _measure(coder: Coder, symbols: np.ndarray) -> tuple[float, float, float]:
    """Msym/s of encoding and of decoding, and the size over the entropy."""
    symbols = symbols[: coder.most]
    data, encoding = timing.timed(lambda: coder.encode(symbols))
    back, decoding = timing.timed(
        lambda: jax.block_until_ready(coder.decode(data, symbols.size))
    )
    if not np.array_equal(np.asarray(back).ravel(), symbols):
        raise AssertionError("a coder does not give back what it was given")
    least = _entropy(np.bincount(symbols)) * symbols.size / 8
    million = symbols.size / 1e6
    return (
        million / encoding.wall,
        million / decoding.wall,
        coder.size(data) / least,
    )


def _print(
    coders: dict[str, Coder | None],
    rounds: list[dict[str, tuple[float, float, float]]],
) -> None:
    print(f"{'coder':24}{'encode':>9}{'decode':>9}{'size/H':>9}{'/ our NumPy':>20}")
    ours: np.ndarray | None = None
    for name, coder in coders.items():
        if coder is None:
            print(f"{name:24}{'absent':>9}")
            continue
        row = np.median([measured[name] for measured in rounds], axis=0)
        ours = row if ours is None else ours
        speeds = f"{row[0]:9.1f}{row[1]:9.1f}{row[2]:9.4f}"
        print(f"{name:24}{speeds}{row[0] / ours[0]:10.2f}{row[1] / ours[1]:10.2f}")


# ---- coders -------------------------------------------------------------------------


def _streams() -> dict[str, Coder | None]:
    """Our Huffman streams."""
    return {
        "Huffman, NumPy": Coder(
            huffman.encode, lambda data, count: huffman.decode(data, 0, count)[1]
        ),
    }


def _codings(shape: tuple[int, int]) -> dict[str, Coder | None]:
    """Our codings of labels, chosen and by name, decoded to values."""
    leaf = codings.Leaf(shape, _ENTRIES, _ENTRIES // 2)
    # Values equal to their labels, so that the result is easy to check.
    lookup = np.arange(_ENTRIES + 1, dtype=np.float32)

    def coder(name: str | None, jitted: bool) -> Coder:
        def decode(data: tuple[str, bytes], _: int) -> Any:
            if jitted:
                flat = codings.decode(*data, leaf, lookup, device.take_on_cpu)
                return device.to_device(flat)
            return codings.decode(*data, leaf, lookup)

        return Coder(
            lambda labels: codings.encode(labels, leaf, name),
            decode,
            lambda data: len(data[1]),
        )

    ours: dict[str, Coder | None] = {}
    for name in (None, "order0", "relative"):
        title = name or "smallest coding"
        ours[f"{title}, NumPy"] = coder(name, jitted=False)
        ours[f"{title}, JAX"] = coder(name, jitted=True)
    return ours


def _peers(counts: np.ndarray) -> dict[str, Coder | None]:
    """Other coders; None for those that are not installed."""
    return {
        "dahuffman": _if_there("dahuffman", _dahuffman, counts),
        "constriction Huffman": _if_there("constriction", _constriction_tree, counts),
        "constriction ANS": _if_there("constriction", _constriction_ans, counts),
        "zstd -1": _if_there("zstandard", _zstd(1), counts),
        "zstd -3": _if_there("zstandard", _zstd(3), counts),
    }


def _if_there(
    package: str, make: Callable[[Any, np.ndarray], Coder], counts: np.ndarray
) -> Coder | None:
    module = timing.installed(package)
    return None if module is None else make(module, counts)


def _dahuffman(dahuffman: Any, counts: np.ndarray) -> Coder:
    codec = dahuffman.HuffmanCodec.from_frequencies(dict(enumerate(counts.tolist())))
    return Coder(
        lambda symbols: codec.encode(symbols.tolist()),
        lambda data, _: codec.decode(data),
        most=_SLOW,
    )


def _constriction_tree(constriction: Any, counts: np.ndarray) -> Coder:
    symbol = constriction.symbol
    writing = symbol.huffman.EncoderHuffmanTree(counts / counts.sum())
    reading = symbol.huffman.DecoderHuffmanTree(counts / counts.sum())

    def encode(symbols: np.ndarray) -> np.ndarray:
        coder = symbol.QueueEncoder()
        for value in symbols.tolist():
            coder.encode_symbol(value, writing)
        return coder.get_compressed()[0]

    def decode(data: np.ndarray, count: int) -> np.ndarray:
        coder = symbol.QueueDecoder(data)
        return np.array([coder.decode_symbol(reading) for _ in range(count)])

    return Coder(encode, decode, lambda data: data.nbytes, most=_SLOW)


def _constriction_ans(constriction: Any, counts: np.ndarray) -> Coder:
    model = constriction.stream.model.Categorical(counts / counts.sum(), perfect=False)
    ans = constriction.stream.stack.AnsCoder

    def encode(symbols: np.ndarray) -> np.ndarray:
        coder = ans()
        coder.encode_reverse(symbols.astype(np.int32), model)
        return coder.get_compressed()

    return Coder(
        encode,
        lambda data, count: ans(data).decode(model, count),
        lambda data: data.nbytes,
    )


def _zstd(level: int) -> Callable[[Any, np.ndarray], Coder]:
    def make(zstandard: Any, counts: np.ndarray) -> Coder:
        del counts
        compress = zstandard.ZstdCompressor(level=level).compress
        expand = zstandard.ZstdDecompressor().decompress
        return Coder(
            lambda symbols: compress(symbols.astype(np.uint8).tobytes()),
            lambda data, _: np.frombuffer(expand(data), np.uint8),
        )

    return make


if __name__ == "__main__":
    main()
