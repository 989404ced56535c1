"""The curve of size and error, drawn from the rows that `curve` logged."""

from matplotlib.figure import Figure

from experiments.reporting import plotting
from experiments.reporting.log import Log
from experiments.reporting.plotting import BLUE, GRAY, ORANGE

_TITLE = """Error against size of the file, {} data
the pruned network on uniform grids, not trained again"""
_HIGHEST = 10.0  # percentage points above the dense network, where the axis ends


def size_error(log: Log) -> Figure | None:
    """Draws error against size at several prices of a bit, beside the run's file."""
    trained, ours = log.result("dense-end"), log.result("curve-study")
    points = [r for r in log.rows if r["phase"].startswith("curve-") and "penalty" in r]
    if trained is None or ours is None or not points:
        return None
    dense = trained["watch_error"]
    points.sort(key=lambda point: point["bytes"])
    made = plotting.figure(_TITLE.format(log.watched_on), (8, 5.6))
    ax = made.subplots()
    x = [point["bytes"] / 1000 for point in points]
    y = [point["watch_error"] for point in points]
    ax.plot(x, y, "o-", color=BLUE, label="on grids, a point for each price of a bit")
    ax.plot(
        ours["bytes"] / 1000, ours["watch_error"], "*", color=ORANGE, markersize=12,
        label="the file of this run: shared, codebooks fine-tuned",
    )  # fmt: skip
    ax.axhline(dense, color=GRAY, linestyle=":", label=f"dense: {dense:.2f} %")
    plotting.label(ax, "size of the file (kB)", "error (%)")
    plotting.log_axis(ax.xaxis, [*x, ours["bytes"] / 1000])
    low = min(*y, dense, ours["watch_error"])
    high = min(max(*y, dense, ours["watch_error"]), dense + _HIGHEST)
    ax.set_ylim(low - 0.1 * (high - low) - 0.1, high + 0.1 * (high - low) + 0.1)
    return plotting.with_legend(made)
