"""A figure of where the bytes of a file are."""

from collections.abc import Mapping
from pathlib import Path

from deepcomp_jax.cli import common
from deepcomp_jax.cli.common import UsageError


def draw(path: Path, totals: Mapping[str, tuple[int, int]], file_bytes: int) -> None:
    """Draws bars of bytes, and of bits for each value.

    Args:
        path: Of the figure.
        totals: Values and bytes of each part of the network.
        file_bytes: Of the file; what no part takes is names, shapes and codebooks.

    Raises:
        UsageError: There is no Matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError("--plot needs Matplotlib: pip install matplotlib") from None
    rest = file_bytes - sum(taken for _, taken in totals.values())
    names = [*totals, "header"]
    taken = [*(own for _, own in totals.values()), max(rest, 0)]
    labels = [
        *(
            f"{8 * own / max(size, 1):.2f} bits a value"
            for size, own in totals.values()
        ),
        "",
    ]
    figure = Figure(figsize=(8, 1.2 + 0.3 * len(names)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh([common.shown(name)[:60] for name in names], taken)
    axes.bar_label(bars, labels, padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.25)
    axes.set_xlabel("bytes")
    axes.set_title(f"{file_bytes} bytes on disk", fontsize=10)
    figure.savefig(path, dpi=150)
