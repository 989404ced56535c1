"""The figures of a run, drawn from what it logged, its weights and its file.

Figures 1 to 5 correspond to those of the slides, whose Figures 1 and 2 have the same
caption and are one figure here. Errors are logged in percent; the figures show the
accuracy, 100 - error. A function that makes a figure returns None if what it shows is
not logged, such as a method of sharing that was not run.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.reporting import layer_figures, plotting
from experiments.reporting.curve_figure import size_error
from experiments.reporting.layer_figures import TensorRow
from experiments.reporting.log import Log
from experiments.reporting.plotting import BLUE, GRAY, GREEN, ORANGE
from experiments.reporting.tradeoff_figure import tradeoff
from experiments.training.runs import Row

# The part of Figure 4, the name, color and marker of each method of sharing.
METHODS = {
    "kmeans": ("(a)", "k-means", ORANGE, "P"),
    "nonparametric": ("(b)", "non-parametric", GREEN, "D"),
    "paper": ("(a)", "linear k-means", ORANGE, "P"),
    "grid": ("(a)", "grid", ORANGE, "P"),
}


class Measure(NamedTuple):
    """One of the slides' measures of compression.

    Attributes:
        title: The title of its figure.
        label: The label of its axis.
        of: Maps the counts of unique non-zero values, of non-zero weights and of all
            parameters to the measure.
    """

    title: str
    label: str
    of: Callable[[int, int, int], float]


MEASURES = {
    "fig1_2_unique_per_parameters": Measure(
        "Accuracy against unique values per parameter",
        "unique non-zero values / all parameters (%)",
        lambda unique, _, parameters: 100 * unique / parameters,
    ),
    "fig3_parameters_per_unique": Measure(
        "Accuracy against parameters per unique value\n"
        '(the slides\' "compression rate", no ratio of stored bytes)',
        "all parameters / unique non-zero values",
        lambda unique, _, parameters: parameters / unique,
    ),
    "fig_unique_per_nonzero": Measure(
        "Accuracy against unique values per non-zero weight",
        "unique non-zero values / non-zero weights (%)",
        lambda unique, nonzero, _: 100 * unique / nonzero,
    ),
}


def draw(
    directory: Path,
    rows: Sequence[Row],
    weights: Mapping[str, Mapping[str, np.ndarray]],
    tensors: Sequence[TensorRow],
    parameters: int,
    watched_on: str,
) -> list[Path]:
    """Draws all figures of a run as PNG files.

    Args:
        directory: Where the files go.
        rows: The rows of `metrics.jsonl`.
        weights: The leaves by name of the network "trained", "pruned" and "clustered".
        tensors: What the file holds of each leaf.
        parameters: How many values the leaves of the network have.
        watched_on: What `watch_error` was measured on: "validation" or "test".

    Returns:
        The files written. A figure whose rows are missing is not drawn.
    """
    log = Log(rows, parameters, watched_on)
    drawn = {name: accuracy_against(log, m) for name, m in MEASURES.items()}
    drawn |= {
        f"fig4{part[1]}_fine_tuning_{method}": fine_tuning(log, method)
        for method, (part, *_) in METHODS.items()
    }
    drawn |= {
        "fig5_compression_by_layer": layer_figures.compression(weights, tensors),
        "fig6_tradeoff": tradeoff(log),
        "fig7_size_error": size_error(log),
        "fig_weights": layer_figures.distributions(weights),
        "fig_training": training(log),
        "fig_pruning": pruning(log),
    }
    written = []
    for name, figure in drawn.items():
        if figure is not None:
            written.append(directory / f"{name}.png")
            plotting.save(figure, written[-1])
    return written


def accuracy_against(log: Log, measure: Measure) -> Figure | None:
    """Draws accuracy after sharing against a measure of compression (Figures 1 to 3).

    Codebooks of fixed sizes have equally many distinct values after each iteration. No
    figure is made if the measure is the same for all iterations or, if there are none,
    for all fine-tuned networks.
    """
    shared = [
        (r["shared_unique"], r["nonzero"], r["shared_watch_error"])
        for r in log.iterations()
    ]
    tuned = {m: r for m in METHODS if (r := log.result(f"{m}-end")) and r["unique"]}
    x = [measure.of(unique, kept, log.parameters) for unique, kept, _ in shared]
    counts = [(row["unique"], row["nonzero"]) for row in tuned.values()]
    ends = [measure.of(*count, log.parameters) for count in counts]
    if len(set(x or ends)) < 2:
        return None
    figure = plotting.figure(
        f"{measure.title}\nafter weight sharing, {log.watched_on} data"
    )
    ax = figure.subplots()
    if shared:
        y = [100 - error for *_, error in shared]
        ax.plot(x, y, color=GRAY, linewidth=0.8, alpha=0.6)
        label = "k-means after an iteration of pruning"
        points = ax.scatter(
            x, y, s=45, c=range(1, len(x) + 1), cmap="cividis", zorder=3, label=label
        )
        points.set_clim(1, len(x))
        bar = figure.colorbar(points, ax=ax, label="iteration of pruning")
        bar.locator = MaxNLocator(integer=True)
    for (method, row), end in zip(tuned.items(), ends, strict=True):
        _, name, color, marker = METHODS[method]
        ax.plot(
            end, 100 - row["watch_error"], marker, color=color, markersize=9,
            markeredgecolor="white", linestyle="", zorder=4,
            label=f"{name}, fine-tuned: {100 - row['watch_error']:.2f} %",
        )  # fmt: skip
    _horizontal(ax, log.result("dense-end"), "dense network", GRAY, ":")
    plotting.label(ax, measure.label, _accuracy(log))
    plotting.log_axis(ax.xaxis, [*x, *ends])
    return plotting.with_legend(figure)


def fine_tuning(log: Log, method: str) -> Figure | None:
    """Draws Figure 4: accuracy over the epochs of fine-tuning the shared values."""
    start = log.result(f"{method}-start")
    if start is None:
        return None
    part, name, color, _ = METHODS[method]
    epochs = log.epochs(method)
    figure = plotting.figure(
        f"{part} Fine-tuning the shared values after {name} sharing"
    )
    ax = figure.subplots()
    watched = [100 - r["watch_error"] for r in (start, *epochs)]
    ax.plot(
        range(len(watched)), watched, "o-", color=color, label=f"{log.watched_on} data"
    )
    if epochs:
        ax.plot(
            [r["epoch"] for r in epochs], [100 - r["train_error"] for r in epochs],
            "s--", color=color, alpha=0.6, markerfacecolor="white",
            label="training data, mean over the epoch",
        )  # fmt: skip
    pruned = log.iterations()[-1:]
    _horizontal(ax, pruned[0] if pruned else None, "pruned network", BLUE, "-.")
    _horizontal(ax, log.result("dense-end"), "dense network", GRAY, ":")
    plotting.label(ax, "epochs after sharing", "accuracy (%)")
    ax.set_xlim(-0.5, max(len(epochs), 1) + 0.5)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return plotting.with_legend(figure)


def pruning(log: Log) -> Figure | None:
    """Draws accuracy against kept weights along the iterations of pruning."""
    rows = log.iterations()
    if not rows:
        return None
    figure = plotting.figure(
        f"Accuracy along the iterations of pruning, {log.watched_on} data"
    )
    ax = figure.subplots()
    kept = [100 * r["nonzero"] / log.parameters for r in rows]
    series = {
        "watch_error": ("pruned and retrained", BLUE, "o-"),
        "shared_watch_error": ("then shared by k-means, not fine-tuned", ORANGE, "^--"),
    }
    for key, (label, color, style) in series.items():
        accuracy = [100 - r[key] for r in rows]
        ax.plot(kept, accuracy, style, color=color, markersize=5, label=label)
    _horizontal(ax, log.result("dense-end"), "dense network", GRAY, ":")
    plotting.label(ax, "kept (non-zero) weights / all parameters (%)", _accuracy(log))
    plotting.log_axis(ax.xaxis, kept)
    ax.xaxis.set_inverted(True)
    return plotting.with_legend(figure)


def training(log: Log) -> Figure | None:
    """Draws error and learning rate over all epochs of a run, with shaded phases."""
    rows = [r for r in log.rows if "epoch" in r]
    if not rows:
        return None
    figure = plotting.figure(
        "Error and learning rate over all epochs of the run", (10, 6)
    )
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(5, 2))
    phases = [(name, list(g)) for name, g in groupby(rows, lambda r: r["phase"])]
    edges = np.cumsum([0, *(len(group) for _, group in phases)])
    size = float(np.clip(400 / len(rows), 1, 6))
    for ax, key, style, color, label in (
        (top, "watch_error", ".-", ORANGE, f"{log.watched_on} data"),
        (top, "train_error", ".--", BLUE, "training data, mean over the epoch"),
        (bottom, "rate", ".-", GRAY, None),
    ):
        for start, (_, group) in zip(edges, phases, strict=False):
            x, y = start + 1 + np.arange(len(group)), [r[key] for r in group]
            ax.plot(x, y, style, color=color, markersize=size, label=label)
            label = None
    _shade(top, bottom, edges)
    _name_phases(top, [name for name, _ in phases], edges)
    plotting.label(top, "", "error (%)")
    plotting.label(bottom, "epoch of the run", "learning rate,\nhighest")
    plotting.log_axis(bottom.yaxis, [r["rate"] for r in rows if r["rate"] > 0] or [1])
    bottom.set_xlim(0.5, edges[-1] + 0.5)
    bottom.xaxis.set_major_locator(MaxNLocator(integer=True))
    return plotting.with_legend(figure)


def _shade(top: Axes, bottom: Axes, edges: np.ndarray) -> None:
    """Shades every second phase."""
    for left, right in zip(edges[1:-1:2], edges[2::2], strict=False):
        for ax in (top, bottom):
            ax.axvspan(left + 0.5, right + 0.5, color="#e8eef4", zorder=0)


def _name_phases(top: Axes, names: Sequence[str], edges: np.ndarray) -> None:
    """Writes the names of the phases above them, where there is room."""
    lengths = np.diff(edges)
    # A name is 0.14 inches high, and the axes are 9 inches wide.
    named = [i for i, length in enumerate(lengths) if length > 0.016 * edges[-1]]
    axis = top.secondary_xaxis("top")
    axis.set_xticks(
        [edges[i] + 0.5 + lengths[i] / 2 for i in named],
        [METHODS[names[i]][1] if names[i] in METHODS else names[i] for i in named],
        rotation=90,
    )
    axis.tick_params(length=0, labelsize=8)
    axis.spines["top"].set_visible(False)


def _accuracy(log: Log) -> str:
    return f"accuracy on {log.watched_on} data (%)"


def _horizontal(ax: Axes, row: Row | None, name: str, color: str, style: str) -> None:
    """Draws a line at the accuracy of a network, and puts the number in the legend."""
    if row is not None:
        accuracy = 100 - row["watch_error"]
        label = f"{name}: {accuracy:.2f} %"
        ax.axhline(accuracy, color=color, linestyle=style, label=label, zorder=1)
