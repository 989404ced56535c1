"""What the verbs have in common: arguments, output, and names that are safe to print.

Nothing here imports NumPy, so that `dcz --help` is quick.
"""

import argparse
import json
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

MAX_BYTES = 1 << 32  # as `format.memory_limit.MAX_BYTES`
_USED = 0.9  # of the bytes that were asked for, below which there is a warning


class UsageError(ValueError):
    """The command was called in a way that cannot be."""


# ---- arguments ----------------------------------------------------------------------


def add_output(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of verbs that write."""
    parser.add_argument(
        "-f", "--force", action="store_true", help="replace what is there already"
    )
    add_quiet(parser)
    add_json(parser)


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


def add_max_bytes(parser: argparse.ArgumentParser) -> None:
    """Adds --max-bytes, to verbs that decode."""
    parser.add_argument(
        "--max-bytes", type=size_of, default=MAX_BYTES, metavar="SIZE",
        help="the most memory that a tensor of a file may take while it is read, which "
        "is far more than its bytes in the file if somebody wants that "
        "(default: 4GiB)",
    )  # fmt: skip


def check_target(
    path: Path,
    *,
    force: bool,
    sources: Sequence[Path] = (),
    is_folder: bool = False,
) -> None:
    """Refuses to replace something that nobody said may be replaced.

    Args:
        path: Of the output.
        force: Whether it may be replaced.
        sources: What is read from.
        is_folder: Whether the output is to be a folder.

    Raises:
        UsageError: It exists, or is what is read from.
    """
    if str(path) == "-":
        raise UsageError("files are written whole, and not to a stream: give a path")
    if any(path.exists() and own.exists() and path.samefile(own) for own in sources):
        raise UsageError(f"{path} is the input: choose another output")
    if path.exists() and not force:
        raise UsageError(f"{path} exists: choose another output, or give --force")
    if path.is_dir() and not is_folder:
        raise UsageError(
            f"{path} is a folder, which no file replaces: choose another output, or "
            "remove it first"
        )


def size_of(text: str) -> int:
    """Bytes from "20MB", "1.5 GiB" or "300000".

    Raises:
        argparse.ArgumentTypeError: It is no size.

    Examples:
        >>> [size_of(text) for text in ("20MB", "1.5 GiB", "300000", "7k")]
        [20000000, 1610612736, 300000, 7000]
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", text.lower())
    if not found or (found[3] and not found[2]) or not float(found[1]):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no size: write 300000, 20MB or 1.5GiB"
        )
    base = 1024 if found[3] else 1000
    return round(float(found[1]) * base ** " kmgt".index(found[2] or " "))


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


def fraction(text: str) -> float:
    """A number above zero and below one.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    value = positive(text)
    if value >= 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number below 1, which all zeros would meet"
        )
    return value


def count(text: str) -> int:
    """A whole number above zero.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above zero")
    return int(text)


def pattern(text: str) -> str:
    """A regular expression.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    try:
        re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no regular expression: {error}"
        ) from None
    return text


# ---- output -------------------------------------------------------------------------


def shown(name: str) -> str:
    r"""A name from a file, with control characters escaped: it may be anything.

    Examples:
        >>> print(shown("a\x1b[31m\nb ä"))
        a\x1b[31m\nb ä
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)


def shown_short(name: str, most: int = 80) -> str:
    """A name for a table: of a very long one, its beginning and its end."""
    text = shown(name) or "()"
    if len(text) <= most:
        return text
    return f"{text[: most - 30]}...{text[-27:]}"


def shown_list(names: Sequence[str], most: int = 5) -> str:
    """The first few of some names."""
    more = f", ... {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(shown_short, names[:most])) + more


def natural(name: str) -> list[tuple[int, int, str]]:
    """Sorts names so that layer 2 comes before layer 10."""
    pieces = re.split(r"(\d+)", name)
    return [
        (1, int(piece), piece) if piece.isdecimal() else (0, 0, piece)
        for piece in pieces
    ]


def bytes_text(size: float) -> str:
    """A size that people can read, in decimal units as `--bytes` takes them.

    Examples:
        >>> [bytes_text(size) for size in (999, 1500, 2_204_000_000)]
        ['999 B', '1.5 kB', '2.20 GB']
    """
    for unit in ("B", "kB", "MB"):
        if abs(size) < 999.95:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.2f} GB"


def size_on_disk(path: Path) -> int:
    """Bytes of a file, or of all files in a directory."""
    if path.is_dir():
        return sum(own.stat().st_size for own in path.rglob("*") if own.is_file())
    return path.stat().st_size


def print_json(value: Any) -> None:
    """Prints a value as JSON, which knows neither infinity nor NaN: they are null."""
    print(json.dumps(_finite(value), indent=1))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(own) for key, own in value.items()}
    return list(map(_finite, value)) if isinstance(value, list | tuple) else value


def print_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints columns, the first to the left and the others to the right."""
    lines = [heads, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    for line in lines:
        cells = [line[0].ljust(widths[0])]
        cells += [own.rjust(w) for own, w in zip(line[1:], widths[1:], strict=True)]
        print("  ".join(cells).rstrip())


def warn(text: str) -> None:
    """Warns a person."""
    print(f"dcz: warning: {shown(text)}", file=sys.stderr)


def warn_of_spare(size: int, limit: int) -> None:
    """Warns if much of the bytes that were asked for is not used."""
    if size < _USED * limit:
        warn(
            f"the finest grids take {size} of the {limit} bytes that were asked for: "
            "--keep and --lossless take more, for weights that change less"
        )


def fail(text: str, status: int) -> int:
    """Says what is wrong, on one line or a few; the exit status."""
    lines = "\n".join(map(shown, text.splitlines()))
    print(f"dcz: {lines}", file=sys.stderr)
    return status
