"""Figures of the benchmark: what a file loses of a network, against its size."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from experiments.post_training import results
from experiments.post_training.methods import OURS
from experiments.post_training.networks import Metric
from experiments.post_training.results import DENSE, File, Row
from experiments.reporting import plotting
from experiments.reporting.plotting import BLUE, GRAY, GREEN, ORANGE

_MARKERS = "osv^D<>P"
_HIGHEST = 5.0  # percentage points above the dense network, where the axis ends


def draw(rows: Sequence[Row], network: str, metric: Metric) -> Figure:
    """Draws a curve for each method.

    Args:
        rows: Those of the network, and others.
        network: Which network.
        metric: What is drawn against bytes.
    """
    files = [f for f in results.by_file(rows) if f.row.network == network]
    dense = [f for f in files if f.row.method == DENSE]
    files = [f for f in files if f.row.method != DENSE]
    made = plotting.figure(f"{network}: quality against size, no retraining", (8, 6))
    ax = made.subplots()
    curves = dict.fromkeys((file.row.family(), file.row.data) for file in files)
    shown: list[float] = []
    for number, (family, data) in enumerate(sorted(curves)):
        own = [f for f in files if (f.row.family(), f.row.data) == (family, data)]
        y = [_height(file, metric) for file in own]
        shown += y
        ours = family.startswith(OURS)
        ax.plot(
            [file.row.bytes / 1000 for file in own], y, "-",
            marker=_MARKERS[number % len(_MARKERS)], markersize=7 if ours else 5,
            color=ORANGE if ours else (BLUE, GREEN, GRAY)[number % 3],
            linewidth=2 if ours else 1, zorder=3 if ours else 2,
            label=family if data == "none" else f"{family} ({data} data)",
        )  # fmt: skip
    name = f"1 - {metric.name}" if metric.higher else metric.name
    plotting.label(ax, "size of the file (kB)", name)
    if "%" in metric.name:
        low = min(_height(file, metric) for file in dense)
        ax.axhline(low, color=GRAY, linestyle=":", label=f"float32: {low:.2f} %")
        ax.set_ylim(low - 0.5, low + _HIGHEST)
        files = [f for f in files if _height(f, metric) < low + _HIGHEST]
    else:
        plotting.log_axis(ax.yaxis, shown)
    plotting.log_axis(ax.xaxis, [file.row.bytes / 1000 for file in files])
    return plotting.with_legend(made)


def _height(file: File, metric: Metric) -> float:
    """What is drawn: less is better."""
    return metric.loss(file.values[metric.name])
