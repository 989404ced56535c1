"""The frontier of size and error: our files among all that is published.

    python -m experiments.frontier [RESULTS_DIR]

Reads the report of every run under the directory, `experiments/results` if none is
given, and writes there `frontier.txt` and a figure for each network that others have
compressed too. Files of other networks or data are in neither.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from deepcomp_jax.account.text import align
from deepcomp_jax.format import files
from experiments.reporting import frontier_figure, plotting, seeds
from experiments.reporting.published import FRONTIERS, Frontier, Size
from experiments.reporting.seeds import Preset

_RESULTS = Path(__file__).parent / "results"
_HEAD = (
    *("", "method", "bytes", "of MB", "ratio", "dense %", "error %", "measured"),
    *("source", "note"),
)
_LEFT = {0, 1, 7, 8, 9}  # columns of text
_INTRODUCTION = """\
What is published of each network, and ours (*), by size. Ours are whole files, in which
nothing is missing that the network needs, and test errors of the networks decoded from
them: mean ± standard deviation over seeds. What others measured:
  file         bytes of a file
  coded bytes  what an entropy coder wrote, in no file of its own
  computed     estimated, or counted in bits that nothing was written in
  no bytes     weights or units were counted
Of MB: the dense fp32 network that was compressed; a ratio is its bytes / bytes.
Dense %: the error of that network, before it was compressed. Networks are not equally
large nor equally good to begin with: compare bytes, and how far the error rises.
Notes begin with why to be careful: weights only (BatchNorm, biases or what a decoder
needs besides is not in the size; of most other rows that are no files it is not known),
recalled (not read again at the source), derived (from other numbers there, as a size
from a ratio), second-hand (read where somebody else quotes it)."""


def main(args: list[str] | None = None) -> None:
    """Reads the command line; writes the table and the figures.

    Args:
        args: The arguments of the command; None takes those of the process.
    """
    parser = argparse.ArgumentParser(description="Our files among those published.")
    parser.add_argument("results", type=Path, nargs="?", default=_RESULTS)
    results = parser.parse_args(args).results
    try:
        presets = seeds.read(results)
    except ValueError as error:
        parser.error(str(error))
    for path in write(results, presets):
        print(path)


def write(directory: Path, presets: Sequence[Preset]) -> list[Path]:
    """Writes `frontier.txt` and a figure for each network.

    Args:
        directory: Where the files go.
        presets: Our runs, of any networks.

    Returns:
        The files written.
    """
    written = [directory / "frontier.txt"]
    files.write(written[0], ("\n".join(lines(presets)) + "\n").encode())
    for frontier in FRONTIERS:
        figure = frontier_figure.draw(frontier, ours(frontier, presets))
        written.append(directory / f"frontier_{frontier.key}.png")
        plotting.save(figure, written[-1])
    return written


def ours(frontier: Frontier, presets: Sequence[Preset]) -> list[Preset]:
    """Chooses those of our runs that have the frontier's network and data."""
    return [
        preset
        for preset in presets
        if preset.network.startswith(frontier.network)
        and preset.dataset == frontier.dataset
    ]


def lines(presets: Sequence[Preset]) -> Iterator[str]:
    """The table, a part for each network.

    Args:
        presets: Our runs, of any networks.
    """
    yield from _INTRODUCTION.splitlines()
    for frontier in FRONTIERS:
        yield ""
        yield f"{frontier.network} on {frontier.dataset}"
        yield from frontier.differs.splitlines()
        rows = [_row(size, frontier.dense_bytes) for size in frontier.sizes]
        rows += [_our_row(preset) for preset in ours(frontier, presets)]
        rows.sort(key=lambda row: row[0])
        yield from align([_HEAD, *(cells for _, cells in rows)], _LEFT)


def _row(size: Size, dense_bytes: int) -> tuple[float, Sequence[str]]:
    """The size that a row is sorted by, and the cells of the row."""
    cells = (
        "",
        size.method,
        "-" if size.size is None else f"{size.size:,}",
        _megabytes(size.dense_bytes or dense_bytes) if size.size else "-",
        "-" if size.ratio is None else f"{size.ratio:g}",
        "-" if size.dense_error is None else str(size.dense_error),
        "-" if size.error is None else str(size.error),
        size.measured,
        size.source,
        "; ".join(filter(None, (", ".join(size.marks), size.note))),
    )
    return (float("inf") if size.size is None else size.size), cells


def _our_row(preset: Preset) -> tuple[float, Sequence[str]]:
    size, _ = seeds.mean_and_deviation(preset.sizes)
    cells = (
        "*",
        f"ours: {preset.name}",
        seeds.spread(preset.sizes),
        _megabytes(preset.dense_bytes),
        f"{preset.dense_bytes / size:.4g}",
        seeds.spread(preset.dense_errors, 2),
        seeds.spread(preset.errors, 2),
        "whole file",
        "this repository",
        f"{preset.network}, {len(preset.sizes)} "
        + ("seed" if len(preset.sizes) == 1 else "seeds"),
    )
    return size, cells


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f}"


if __name__ == "__main__":
    main()
