"""Figure 6 of the paper, drawn from the rows that `tradeoff` logged."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from experiments.reporting import plotting
from experiments.reporting.plotting import BLUE, GREEN, GREY, ORANGE
from experiments.study.tradeoff import STEPS
from experiments.training.runs import Row

# Label, color and style of each curve.
_CURVES = {
    "both": ("pruning and sharing", ORANGE, "o-"),
    "pruned": ("pruning alone", BLUE, "s-"),
    "shared": ("sharing alone", GREEN, "^-"),
    "study": ("both, with the iterations and epochs of the study", "black", "*"),
}
_LOWEST = -4.5  # percentage points: what loses more is no use, and is cut off
_TITLE = """Accuracy lost against size of the file, {} data
curves: pruned in one shot and shared, at most {} steps of training after each"""


def tradeoff(rows: Sequence[Row], *, parameters: int, watched_on: str) -> Figure | None:
    """Accuracy lost against compressed size, for pruning, sharing, and both.

    Curves leave the axes below where more than 4.5 points are lost.

    Args:
        rows: Of `metrics.jsonl`.
        parameters: Values in all leaves of the network.
        watched_on: "validation" or "test": what `watch_error` was measured on.
    """
    dense = next((r["watch_error"] for r in rows if r["phase"] == "dense-end"), None)
    points = [r for r in rows if r["phase"].startswith("tradeoff-")]
    if dense is None or not points:
        return None
    made = plotting.figure(_TITLE.format(watched_on, STEPS), (8, 5.6))
    ax = made.subplots()
    sizes = []
    for curve, (label, color, style) in _CURVES.items():
        measured = [r[curve] for r in points if curve in r]
        measured.sort(key=lambda point: point["bytes"])
        x = [100 * point["bytes"] / (4 * parameters) for point in measured]
        y = [dense - point["watch_error"] for point in measured]
        ax.plot(x, y, style, color=color, markersize=7, label=label)
        sizes += x
    ax.axhline(
        0, color=GREY, linestyle=":", label=f"dense network: {100 - dense:.2f} %"
    )
    plotting.label(
        ax, "size of the file / dense fp32 values (%)",
        "change of accuracy (percentage points)",
    )  # fmt: skip
    plotting.log_axis(ax.xaxis, sizes)
    ax.xaxis.set_major_locator(FixedLocator([0.5, 1, 2, 3, 5, 8, 12, 20, 30, 50]))
    ax.set_xlim(0.9 * min(sizes), 1.1 * max(sizes))
    ax.set_ylim(_LOWEST, 0.5)
    return plotting.with_legend(made)
