"""The command and the library on checkpoints of real sizes: time, memory and bytes.

    python -m experiments.benchmarks.tool --model model.safetensors --work-dir DIR

Each piece of work is a process of its own, whose start counts, but for the last rows.
`--model` is a checkpoint such as MiniLM-L6; the other one is made here, in the shapes
of a Llama of 22 layers with 1.1 billion values in bfloat16, and takes 2.2 GB in DIR.
zipnn is a peer where it is installed. Writes `results/benchmarks/tool.json` and
`tool.txt`.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from deepcomp_jax import checkpoints
from deepcomp_jax.account.text import align
from deepcomp_jax.format import files

RESULTS = Path(__file__).parents[1] / "results"
LAYERS, WIDTH, INNER, KEYS, WORDS = 22, 2048, 5632, 256, 32000
SHARD = 800_000_000  # bytes


class Row(NamedTuple):
    """A piece of work.

    Attributes:
        work: What was done.
        seconds: It took, with the start of the process.
        peak_bytes: Of memory, with those of the process itself.
        bytes: Of what it wrote, if it wrote something.
        peer: What was done for comparison.
        ratio: Seconds of the peer over ours or, where bytes are compared, our bytes
            over the peer's.
    """

    work: str
    seconds: float
    peak_bytes: int
    bytes: int | None = None
    peer: str | None = None
    ratio: float | None = None


class Lazy(NamedTuple):
    """Weights with a scale of their own in each row, and heavy tails."""

    shape: tuple[int, ...]
    seed: int
    dtype: np.dtype = np.dtype(ml_dtypes.bfloat16)

    @property
    def size(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        rng = np.random.default_rng(self.seed)
        values = rng.standard_normal(self.shape, np.float32)
        values *= 0.02 * np.exp(0.3 * rng.standard_normal((self.shape[0], 1)))
        tails = rng.random(self.shape, np.float32) < 0.02
        values[tails] *= 3
        return values.astype(self.dtype)


def llama(layers: int) -> dict[str, Lazy]:
    """The matrices of a language model, by name."""
    shapes = {
        "model.embed_tokens.weight": (WORDS, WIDTH),
        "lm_head.weight": (WORDS, WIDTH),
    }
    for layer in range(layers):
        of_layer = {
            "self_attn.q_proj": (WIDTH, WIDTH),
            "self_attn.k_proj": (KEYS, WIDTH),
            "self_attn.v_proj": (KEYS, WIDTH),
            "self_attn.o_proj": (WIDTH, WIDTH),
            "mlp.gate_proj": (INNER, WIDTH),
            "mlp.up_proj": (INNER, WIDTH),
            "mlp.down_proj": (WIDTH, INNER),
        }
        for name, shape in of_layer.items():
            shapes[f"model.layers.{layer}.{name}.weight"] = shape
    return {name: Lazy(shape, i) for i, (name, shape) in enumerate(shapes.items())}


def timed(*command: str) -> tuple[float, int]:
    """Seconds and peak bytes of a process, which must succeed."""
    program = (
        "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:], "
        "stdout=subprocess.DEVNULL); print(resource.getrusage("
        "resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"
    )
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", program, *command],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    seconds = time.perf_counter() - began
    return seconds, 1024 * int(done.stdout.split()[-1])


def dcz(work: str, *arguments: str, out: Path | None = None) -> Row:
    """A row for a call of the command."""
    seconds, peak = timed(sys.executable, "-m", "deepcomp_jax.cli", *arguments)
    size = None
    if out is not None:
        size = out.stat().st_size if out.is_file() else _folder_bytes(out)
    return Row(work, seconds, peak, size)


def _folder_bytes(path: Path) -> int:
    return sum(own.stat().st_size for own in path.iterdir())


def start() -> Iterator[Row]:
    """Starts, without work."""
    yield Row(
        "import deepcomp_jax", *timed(sys.executable, "-c", "import deepcomp_jax")
    )
    yield dcz("dcz --help", "--help")


def small(model: Path, work: Path) -> Iterator[Row]:
    """A checkpoint of some tens of millions of values."""
    out = work / "small.dcz"
    given = str(model), "-o", str(out), "-f", "-q"
    yield dcz(
        "MiniLM: compress, 4 bits",
        "compress",
        *given,
        "--bits-per-weight",
        "4",
        out=out,
    )
    yield dcz("MiniLM: compress, 10 MB", "compress", *given, "--bytes", "10MB", out=out)
    for dtype in ("float32", "bfloat16"):
        source = work / f"small-{dtype}.safetensors"
        if not source.exists():
            with checkpoints.open(model) as opened:
                cast = {n: _cast(leaf, dtype) for n, leaf in opened.leaves.items()}
            checkpoints.write(source, cast)
        given = str(source), "-o", str(out), "-f", "-q", "--lossless"
        row = dcz(f"MiniLM in {dtype}: compress, lossless", "compress", *given, out=out)
        yield _against_zipnn(row, source, dtype)


def _cast(leaf: Any, dtype: str) -> np.ndarray:
    values = np.asarray(leaf)
    return values.astype(dtype) if values.dtype == np.float32 else values


def _against_zipnn(row: Row, source: Path, dtype: str) -> Row:
    try:
        from zipnn import ZipNN  # type: ignore[import-not-found]
    except ImportError:
        return row
    coder = ZipNN(bytearray_dtype=dtype, threads=1)
    with checkpoints.open(source) as opened:
        size = sum(
            len(coder.compress(np.asarray(leaf).tobytes()))
            for leaf in opened.leaves.values()
        )
    return row._replace(peer="bytes of zipnn", ratio=(row.bytes or 0) / size)


def large(work: Path, layers: int) -> Iterator[Row]:
    """A checkpoint of 1.1 billion values, in several files."""
    source, out = work / f"llama-{layers}", work / "llama.dcz"
    if not source.exists():
        from deepcomp_jax.checkpoints import shards

        shards.write(source, llama(layers), {}, SHARD)
    given = str(source), "-o", str(out), "-f", "-q"
    name = f"{sum(leaf.size for leaf in llama(layers).values()) / 1e9:.2f} B bfloat16"
    yield dcz(f"{name}: compress", "compress", *given, out=out)
    yield dcz(
        f"{name}: compress, 4 bits",
        "compress",
        *given,
        "--bits-per-weight",
        "4",
        out=out,
    )
    yield dcz(f"{name}: inspect", "inspect", str(out))
    yield dcz(f"{name}: verify", "verify", "-q", str(out))
    back = work / "llama-back.safetensors"
    yield dcz(
        f"{name}: decompress",
        "decompress",
        str(out),
        "-o",
        str(back),
        "-f",
        "-q",
        out=back,
    )
    back.unlink()


def many(work: Path) -> Iterator[Row]:
    """10,000 leaves of 16 x 16."""
    rng = np.random.default_rng(0)
    source, out = work / "many.npz", work / "many.dcz"
    leaves = rng.standard_normal((10_000, 16, 16)).astype(np.float32)
    np.savez(source, **{f"l{i}.weight": own for i, own in enumerate(leaves)})
    given = str(source), "-o", str(out), "-f", "-q"
    yield dcz("10,000 leaves of 16x16: compress", "compress", *given, out=out)
    for verb, call in (("load", "load"), ("report", "report")):
        code = f"import deepcomp_jax as dc; dc.{call}({str(out)!r})"
        yield Row(f"10,000 leaves of 16x16: {verb}", *timed(sys.executable, "-c", code))


def loops() -> Iterator[Row]:
    """Loops within one process, after a first run that compiles."""
    import deepcomp_jax as dc

    rng = np.random.default_rng(0)
    weights = rng.standard_normal((4096, 4096)).astype(np.float32)
    for name, dtype in (("float32", np.float32), ("bfloat16", ml_dtypes.bfloat16)):
        large = rng.standard_normal(38_600_000, np.float32).astype(dtype)
        rule = [dc.Rule("w", share=dc.share.kmeans(16))]
        yield _best(
            f"k-means, k = 16, 38.6 M {name}",
            lambda large=large, rule=rule: dc.share.share({"w": large}, rule),
        )
    dense = dc.compress({"w": weights}, [dc.Rule("w", share=dc.share.kmeans(bits=4))])
    yield _best("save 16.8 M labels of 4 bits", lambda: dc.dumps(dense))
    data = dc.dumps(dense)
    yield _best("load 16.8 M labels of 4 bits", lambda: dc.loads(data))
    pruned = dc.compress(
        {"w": weights * (rng.random(weights.shape) < 0.1)},
        [dc.Rule("w", share=dc.share.kmeans(bits=4))],
    )
    yield _best("save 16.8 M at 90 % zeros", lambda: dc.dumps(pruned))
    yield _best(
        "rate-distortion labels of 16.8 M",
        lambda: dc.rate.quantize(
            {"w": weights}, rd_lambda=0.01, importance={"w": np.ones_like(weights)}
        ),
    )


def _best(work: str, do: Any) -> Row:
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        do()
        seconds.append(time.perf_counter() - began)
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Row(work, min(seconds), peak)


def main() -> None:
    """Measures all, and writes what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="a checkpoint")
    parser.add_argument("--work-dir", type=Path, required=True)
    parser.add_argument("--layers", type=int, default=LAYERS, help="of the large one")
    args = parser.parse_args()
    args.work_dir.mkdir(parents=True, exist_ok=True)
    os.environ["JAX_PLATFORMS"] = "cpu"
    rows: list[Row] = []
    parts = (
        start(),
        small(args.model, args.work_dir),
        large(args.work_dir, args.layers),
        many(args.work_dir),
        loops(),
    )
    for part in parts:
        for row in part:
            print(row, flush=True)
            rows.append(row)
    folder = RESULTS / "benchmarks"
    files.write(
        folder / "tool.json",
        (json.dumps([r._asdict() for r in rows], indent=1) + "\n").encode(),
    )
    files.write(folder / "tool.txt", text(rows).encode())


def text(rows: list[Row]) -> str:
    """The rows as a table."""
    cells = [
        (
            row.work, f"{row.seconds:.2f} s", f"{row.peak_bytes / 1e6:.0f} MB",
            str(row.bytes or ""), row.peer or "",
            "" if row.ratio is None else f"{row.ratio:.4f}",
        )
        for row in rows
    ]  # fmt: skip
    heads = "work", "time", "peak memory", "bytes written", "peer", "ratio"
    lines = align([heads, *cells], left=(0, 4))
    return "\n".join([f"{os.cpu_count()} cores", "", *lines]) + "\n"


if __name__ == "__main__":
    main()
