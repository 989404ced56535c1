"""The one style of all figures: colors, axes, legends; no global state of pyplot."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

# Colors of Okabe and Ito, which color-blind readers can tell apart, and a gray.
GRAY, BLUE, ORANGE, GREEN = "#5f5f5f", "#0072b2", "#d55e00", "#009e73"


def figure(title: str, size: tuple[float, float] = (7.0, 5.0)) -> Figure:
    """Makes an empty figure.

    Args:
        title: What it shows, and on what data.
        size: Width and height in inches.
    """
    made = Figure(figsize=size, layout="constrained")
    made.suptitle(title, fontsize=12, fontweight="bold")
    return made


def label(ax: Axes, x: str, y: str) -> None:
    """Labels both axes, and draws a light grid behind what they show."""
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.grid(color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def with_legend(made: Figure) -> Figure:
    """Puts one legend for all axes below them, where it covers nothing."""
    made.legend(loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    return made


def log_axis(axis: Axis, values: Sequence[float]) -> None:
    """Makes an axis logarithmic, with plain numbers at its ticks.

    Args:
        axis: Either axis of a plot.
        values: Positive; what must be visible. There is always a factor of 8 around
            them, so that values that are all alike do not fill the figure with noise.
    """
    low, high = min(values), max(values)
    middle, half = np.sqrt(low * high), max(np.sqrt(8.0), 1.25 * np.sqrt(high / low))
    if axis is axis.axes.xaxis:
        axis.axes.set(xscale="log", xlim=(middle / half, middle * half))
    else:
        axis.axes.set(yscale="log", ylim=(middle / half, middle * half))
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if half < 30 else (1,)))
    axis.set_major_formatter(FuncFormatter(_plain))
    axis.set_minor_locator(NullLocator())


def _plain(value: float, _: int | None) -> str:
    """A number without an exponent: 0.00002, 5, 100,000."""
    if value >= 1:
        return f"{value:,.0f}"
    return np.format_float_positional(value, precision=2, fractional=False, trim="-")


def save(figure: Figure, path: Path) -> None:
    """Writes a PNG file; the version of matplotlib does not alter its bytes."""
    figure.savefig(path, dpi=150, metadata={"Software": None})
