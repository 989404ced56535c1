"""What the verbs have in common: output, progress, errors, and names that are safe."""

import argparse
import contextlib
import json
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepcomp_jax import checkpoints, trees
from deepcomp_jax.format import reader, tree_header
from deepcomp_jax.rules import check_pattern

ORIGIN = "dcz.origin"  # key of the metadata that names the format of the source


class UsageError(ValueError):
    """The command was called in a way that cannot be."""


# ---- arguments ----------------------------------------------------------------------


def add_output(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of verbs that write."""
    parser.add_argument(
        "-f", "--force", action="store_true", help="replace what is there already"
    )
    add_quiet(parser)


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """Adds --quiet."""
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="neither progress nor summary"
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """Adds --json."""
    parser.add_argument(
        "--json", action="store_true", help="print JSON, for programs to read"
    )


def check_target(path: Path, *, force: bool, sources: Sequence[Path] = ()) -> None:
    """Refuses to replace something that nobody said may be replaced.

    Raises:
        UsageError: It exists, or is what is read from.
    """
    if any(path.exists() and own.exists() and path.samefile(own) for own in sources):
        raise UsageError(f"{path} is the input: choose another output")
    if path.exists() and not force:
        raise UsageError(f"{path} exists: choose another output, or give --force")


def size_of(text: str) -> int:
    """Bytes from "20MB", "1.5 GiB" or "300000".

    Raises:
        argparse.ArgumentTypeError: It is no size.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kKmMgG]?)(i?)[bB]?\s*", text)
    if not found or (found[3] and not found[2]):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no size: write 300000, 20MB or 1.5GiB"
        )
    base = 1024 if found[3] else 1000
    power = " kmg".index(found[2].lower() or " ")
    return round(float(found[1]) * base**power)


def positive(text: str) -> float:
    """A number above zero.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number above zero")
    return value


# ---- trees --------------------------------------------------------------------------


def chosen(tree: Any, only: str | None, skip: str | None = None) -> Any:
    """The part of a tree whose leaves have names that match.

    Raises:
        ValueError: A pattern is no regular expression, or nothing is left.
    """
    for pattern in (only, skip):
        if pattern is not None:
            check_pattern(pattern)
    if only is None and skip is None:
        return tree
    structure, leaves = trees.structure(tree)
    names, _ = tree_header.leaf_names(structure)
    kept = {
        number: leaf
        for number, (name, leaf) in enumerate(zip(names, leaves, strict=True))
        if (only is None or re.search(only, name))
        and not (skip is not None and re.search(skip, name))
    }
    if not kept:
        raise ValueError(f"no tensor is left: there are {shown_list(names)}")
    return reader.fill(structure, kept)


def natural(name: str) -> list[tuple[int, int, str]]:
    """Sorts names so that layer 2 comes before layer 10."""
    pieces = re.split(r"(\d+)", name)
    return [(int(p.isdigit()), int(p) if p.isdigit() else 0, p) for p in pieces]


def metered(tree: Any, meter: "Meter") -> Any:
    """The same tree, whose leaves tell when they are read."""
    structure, leaves = trees.structure(tree)
    counted = [_Metered(leaf, meter, len(leaves)) for leaf in leaves]
    return reader.fill(structure, counted)


class _Metered:
    """A leaf that tells when it is read."""

    def __init__(self, leaf: Any, meter: "Meter", leaves: int) -> None:
        self._leaf, self._meter, self._leaves = leaf, meter, leaves
        self.shape, self.dtype, self.size = leaf.shape, leaf.dtype, leaf.size

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        values = np.asarray(self._leaf, dtype)
        self._meter.one_more(self._leaves, values.nbytes)
        return values


def default_output(path: Path, ending: str) -> Path:
    """The name of an input with another ending, beside it."""
    whole = path if path.name not in ("", ".", "..") else path.resolve()
    name = whole.name
    for found in (".index.json", ".safetensors", ".npz", ".msgpack", ".dcz"):
        name = name.removesuffix(found)
    return whole.with_name(f"{name}{ending}")


def size_on_disk(path: Path) -> int:
    """Bytes of a file, or of all files in a directory."""
    if path.is_dir():
        return sum(own.stat().st_size for own in path.rglob("*") if own.is_file())
    return path.stat().st_size


def source_metadata(checkpoint: checkpoints.Checkpoint) -> dict[str, str]:
    """What a file keeps of the checkpoint that it is made from."""
    return {ORIGIN: checkpoint.format} | dict(checkpoint.metadata)


def own_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """What of a file's metadata came from its source."""
    return {key: text for key, text in metadata.items() if key != ORIGIN}


# ---- output -------------------------------------------------------------------------


def shown(name: str) -> str:
    """A name from a file, with control characters escaped: it may be anything."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)


def shown_list(names: Sequence[str], most: int = 5) -> str:
    """The first few of some names."""
    more = f", ... {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(shown, names[:most])) + more


def bytes_text(size: float) -> str:
    """A size that people can read, in decimal units as `--bytes` takes them."""
    for unit in ("B", "kB", "MB"):
        if abs(size) < 999.95:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.2f} GB"


def print_json(value: Any) -> None:
    """Prints a value as JSON."""
    print(json.dumps(value, indent=1))


def print_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints columns, the first to the left and the others to the right."""
    lines = [heads, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    for line in lines:
        cells = [line[0].ljust(widths[0])]
        cells += [own.rjust(w) for own, w in zip(line[1:], widths[1:], strict=True)]
        print("  ".join(cells).rstrip())


def note(text: str, *, quiet: bool = False) -> None:
    """Says something to a person."""
    if not quiet:
        print(shown(text), file=sys.stderr)


def warn(text: str) -> None:
    """Warns a person."""
    print(f"dcz: warning: {shown(text)}", file=sys.stderr)


def fail(text: str, status: int) -> int:
    """Says what is wrong, on one line or a few; the exit status."""
    lines = "\n".join(map(shown, text.splitlines()))
    print(f"dcz: {lines}", file=sys.stderr)
    return status


@contextlib.contextmanager
def progress(verb: str, *, quiet: bool) -> Iterator["Meter"]:
    """A line about what is done, if somebody looks at a terminal."""
    meter = Meter(verb, on=not quiet and sys.stderr.isatty())
    try:
        yield meter
    finally:
        meter.clear()


class Meter:
    """A line that says how far a verb is: tensors, bytes, and the time that is left."""

    def __init__(self, verb: str, *, on: bool) -> None:
        """Begins to count; without `on` nothing is ever written."""
        self._verb, self._on = verb, on
        self._began, self._last, self._width = time.monotonic(), 0.0, 0
        self._count = self._read = 0

    def __call__(self, done: int, leaves: int, read: int, written: int) -> None:
        """Tells how far it is, some times a second at most."""
        now = time.monotonic()
        if not self._on or (now - self._last < 0.1 and done < leaves):
            return
        self._last = now
        left = (now - self._began) * (leaves - done) / max(done, 1)
        text = f"{self._verb} {done}/{leaves}  {bytes_text(read)}"
        text += f" -> {bytes_text(written)}" if written else ""
        text += f"  {left:.0f} s left"
        print(f"\r{text.ljust(self._width)}", end="", file=sys.stderr, flush=True)
        self._width = len(text)

    def one_more(self, leaves: int, read: int) -> None:
        """Tells that one more leaf was read."""
        self._count, self._read = self._count + 1, self._read + read
        self(self._count, leaves, self._read, 0)

    def clear(self) -> None:
        """Removes the line."""
        if self._width:
            print(f"\r{' ' * self._width}\r", end="", file=sys.stderr, flush=True)
            self._width = 0
