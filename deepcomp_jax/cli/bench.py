"""`dcz bench`: how fast a file is encoded and decoded on this machine."""

import argparse
import contextlib
import importlib
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from deepcomp_jax.cli import common, signals


class Speed(NamedTuple):
    """What was measured.

    Attributes:
        work: What was done.
        seconds: It took.
        values_per_second: Values of the network in it.
        bytes: What was written, or None.
    """

    work: str
    seconds: float
    values_per_second: float
    bytes: int | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds those of the verb."""
    parser.epilog = (
        "Everything is measured twice and the faster one counts, since the first one "
        "compiles; zstd (package zstandard), or else zlib, works on the dense values."
    )
    parser.add_argument("input", metavar="IN.dcz", type=Path)
    common.add_max_bytes(parser)
    common.add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Runs the verb."""
    signals.load("deepcomp_jax.api")
    from deepcomp_jax import api
    from deepcomp_jax.checkpoints.dcz import naming

    with (
        naming(args.input),
        api.open(args.input, max_bytes=args.max_bytes) as file,
    ):
        values = sum(leaf.size for leaf in file.values())
        rows = [
            _measure("decode", values, lambda: _decode(file)),
            _measure("encode", values, lambda: _encode(args.input)),
            *_peer(values, file),
        ]
    if args.json:
        common.print_json([row._asdict() for row in rows])
        return
    heads = "", "seconds", "M values/s", "bytes"
    cells = [
        (r.work, f"{r.seconds:.3f}", f"{r.values_per_second / 1e6:.1f}",
         "" if r.bytes is None else str(r.bytes))
        for r in rows
    ]  # fmt: skip
    common.print_table(heads, cells)


def _measure(work: str, values: int, do: Callable[[], Any]) -> Speed:
    seconds, found = float("inf"), None
    for _ in range(2):
        began = time.perf_counter()
        found = do()
        seconds = min(seconds, time.perf_counter() - began)
    return Speed(work, seconds, values / max(seconds, 1e-9), found)


def _decode(file: Any) -> None:
    for leaf in file.values():
        leaf.__array__()


def _encode(path: Path) -> int:
    """The bytes of all leaves, encoded once more from their labels or values."""
    from deepcomp_jax.device import put_on_cpu
    from deepcomp_jax.format import leaf_encoding, leaf_reading, sets

    total = 0
    with contextlib.ExitStack() as stack:
        for source, header in sets.opened(path, stack):
            for entry in header.leaves:
                if not entry.sections:  # it is a copy, or in another file
                    continue
                stored = leaf_reading.read_leaf(source, header, entry)
                number = entry.layout.codebook
                codebook = None if number is None else header.codebooks[number]
                encoded = leaf_encoding.put(entry.name, stored, codebook, put_on_cpu)
                total += sum(map(len, encoded.bodies))
    return total


def _peer(values: int, file: Any) -> list[Speed]:
    """A general compressor on the dense values, one leaf after the other."""
    try:
        name, pack = "zstd -3", importlib.import_module("zstandard").compress
    except ImportError:
        name, pack = "zlib -1", lambda data: zlib.compress(data, 1)
    seconds = size = 0.0
    for leaf in file.values():
        raw = leaf.__array__().tobytes()
        began = time.perf_counter()
        size += len(pack(raw))
        seconds += time.perf_counter() - began
    return [Speed(f"encode, {name}", seconds, values / max(seconds, 1e-9), int(size))]
