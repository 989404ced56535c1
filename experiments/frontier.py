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
_HEAD = ("", "method", "bytes", "ratio", "error %", "measured", "source", "note")
_LEFT = {0, 1, 5, 6, 7}  # columns of text


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
    yield "What is published of each network, and ours (*), by size. Ours are whole"
    yield "files, and test errors of the networks decoded from them: mean ± standard"
    yield "deviation over seeds. What others measured:"
    yield "  file         bytes of a file"
    yield "  coded bytes  what an entropy coder wrote, in no file of its own"
    yield "  computed     estimated, or counted in bits that nothing was written in"
    yield "  no bytes     weights or units were counted"
    yield "Notes begin with why to be careful: recalled (not read again at the source),"
    yield "derived (from other numbers there, as a size from a ratio), second-hand"
    yield "(read where somebody else quotes it). A ratio is dense fp32 bytes / bytes."
    for frontier in FRONTIERS:
        yield ""
        yield f"{frontier.network} on {frontier.dataset}"
        rows = [_row(size) for size in frontier.sizes]
        rows += [_our_row(preset) for preset in ours(frontier, presets)]
        rows.sort(key=lambda row: row[0])
        yield from align([_HEAD, *(cells for _, cells in rows)], _LEFT)


def _row(size: Size) -> tuple[float, Sequence[str]]:
    """The size that a row is sorted by, and the cells of the row."""
    cells = (
        "",
        size.method,
        "-" if size.size is None else f"{size.size:,}",
        "-" if size.ratio is None else f"{size.ratio:g}",
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
        f"{preset.dense_bytes / size:.4g}",
        seeds.spread(preset.errors, 2),
        "file",
        "this repository",
        f"{preset.network}, {len(preset.sizes)} "
        + ("seed" if len(preset.sizes) == 1 else "seeds"),
    )
    return size, cells


if __name__ == "__main__":
    main()
