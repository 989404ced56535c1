"""Figure 6 of the paper, drawn from the rows that `tradeoff` logged."""

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from experiments.reporting import plotting
from experiments.reporting.log import Log
from experiments.reporting.plotting import BLUE, GRAY, GREEN, ORANGE
from experiments.study.tradeoff import STEPS

# The label, color and style of each curve.
_CURVES = {
    "both": ("pruning and sharing", ORANGE, "o-"),
    "pruned": ("pruning alone", BLUE, "s-"),
    "shared": ("sharing alone", GREEN, "^-"),
    "study": ("both, with the iterations and epochs of the study", "black", "*"),
}
_LOWEST = -4.5  # percentage points; what loses more is of no use, and is cut off
_TITLE = """Accuracy lost against size of the file, {} data
curves: pruned in one shot and shared, at most {} steps of training after each"""


def tradeoff(log: Log) -> Figure | None:
    """Draws the accuracy lost against the size, for pruning, sharing, and both.

    Curves leave the axes at the bottom where more than 4.5 points are lost.
    """
    trained = log.result("dense-end")
    points = [r for r in log.rows if r["phase"].startswith("tradeoff-")]
    if trained is None or not points:
        return None
    dense = trained["watch_error"]
    made = plotting.figure(_TITLE.format(log.watched_on, STEPS), (8, 5.6))
    ax = made.subplots()
    sizes = []
    for curve, (label, color, style) in _CURVES.items():
        measured = [r[curve] for r in points if curve in r]
        measured.sort(key=lambda point: point["bytes"])
        x = [100 * point["bytes"] / (4 * log.parameters) for point in measured]
        y = [dense - point["watch_error"] for point in measured]
        ax.plot(x, y, style, color=color, markersize=7, label=label)
        sizes += x
    ax.axhline(
        0, color=GRAY, linestyle=":", label=f"dense network: {100 - dense:.2f} %"
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
