"""A figure of where the bytes of a file are."""

import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deepcomp_jax.cli.common import UsageError, bytes_text, shown

_MOST = 40  # bars of a figure


def draw(path: Path, totals: Sequence[Any], file_bytes: int | None) -> None:
    """Draws a bar for each row, of which each part has a color.

    Args:
        path: Of the figure; its ending says the format.
        totals: Rows of `inspect`.
        file_bytes: Of the file, of which what no row takes is names, containers and
            metadata; None if the rows are only some of its tensors.

    Raises:
        UsageError: There is no Matplotlib, or no figure of such an ending.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError("--plot needs Matplotlib: pip install matplotlib") from None
    from deepcomp_jax.format import files

    bars = _bars(totals, file_bytes)
    labels = [shown(name).replace("$", r"\$")[:60] for name, _, _ in bars]
    figure = Figure(figsize=(8, 1.5 + 0.3 * len(bars)), layout="constrained")
    axes = figure.subplots()
    most = max(sum(parts.values()) for _, parts, _ in bars)
    scale, unit = (8e3, "kB") if most < 8e6 else (8e6, "MB")
    left = [0.0] * len(bars)
    for part in dict.fromkeys(part for _, parts, _ in bars for part in parts):
        widths = [parts.get(part, 0) / scale for _, parts, _ in bars]
        axes.barh(range(len(bars)), widths, left=left, label=part)
        left = [first + width for first, width in zip(left, widths, strict=True)]
    for place, (_, parts, values) in enumerate(bars):
        if values:
            text = f" {sum(parts.values()) / values:.2f} bits a value"
            axes.text(left[place], place, text, va="center", fontsize=8)
    axes.set_yticks(range(len(bars)), labels)
    axes.invert_yaxis()
    axes.margins(x=0.25)
    axes.set_xlabel(unit)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    if file_bytes is not None:
        axes.set_title(f"{bytes_text(file_bytes)} on disk", fontsize=10)
    data = io.BytesIO()
    try:
        figure.savefig(data, dpi=150, format=path.suffix[1:].lower() or "png")
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from None
    files.write(path, data.getvalue())


def _bars(
    totals: Sequence[Any], file_bytes: int | None
) -> list[tuple[str, dict[str, int], int]]:
    """Name, bits by part, and values of each bar; small ones are one bar together."""
    kept = sorted(totals, key=lambda row: -row.bits)[:_MOST]
    bars = [(row.name, row.parts, row.values) for row in totals if row in kept]
    if others := [row for row in totals if row not in kept]:
        parts = sum((Counter(row.parts) for row in others), Counter())
        values = sum(row.values for row in others)
        bars.append((f"{len(others)} others", dict(parts), values))
    rest = 8 * (file_bytes or 0) - sum(row.bits for row in totals)
    if rest > 0:  # below, in other formats, if they are compressed
        bars.append(("names, containers, metadata", {"header": rest}, 0))
    return bars
