"""Figures of a network's layers: what the file holds of each, and the weights."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.reporting import plotting
from experiments.reporting.plotting import BLUE, GRAY, ORANGE

Weights = Mapping[str, Mapping[str, np.ndarray]]

# The states of the network, from left to right, and their colors.
STATES = {"trained": GRAY, "pruned": BLUE, "clustered": ORANGE}


class TensorRow(NamedTuple):
    """What the file holds of one leaf.

    Attributes:
        name: The path of the leaf, such as "params/conv1_1/kernel".
        size: How many weights the leaf has.
        kept: How many of them are not zero.
        bits: All bits of the file that are charged to the leaf.
    """

    name: str
    size: int
    kept: int
    bits: int


def compression(weights: Weights, tensors: Sequence[TensorRow]) -> Figure | None:
    """Figure 5: what is left of each layer, in weights and in bits of the file.

    Args:
        weights: The leaves by name of each state of the network, for their shapes.
        tensors: What the file holds of them.

    Returns:
        A column for the kernels of the convolutions, one for all biases and BatchNorm
        values, by layer, and one for the dense kernels. None if no leaf has a weight.
    """
    panels = _panels(weights, tensors)
    if not panels:
        return None
    made = plotting.figure(
        "Compression in each layer: weights kept, and their bits in model.dcz",
        (12, 6.5),
    )
    grid = made.subplots(
        2, len(panels), squeeze=False, sharex="col", sharey="row",
        width_ratios=[max(len(layers), 8) for layers in panels.values()],
    )  # fmt: skip
    for column, (title, layers) in zip(grid.T, panels.items(), strict=True):
        _bars(column[0], {n: _kept(layer) for n, layer in layers.items()}, 0, BLUE)
        _bars(column[1], {n: _ratio(layer) for n, layer in layers.items()}, 1, ORANGE)
        column[0].set_title(title, fontsize=10)
        plotting.label(column[0], "", "")
        plotting.label(column[1], "layer", "")
        for ax in column:
            ax.grid(visible=False, axis="x")
    whole = _sum(tensors)
    for axes, height in zip(grid, (_kept(whole), _ratio(whole)), strict=True):
        for ax in axes:
            ax.axhline(height, color=GRAY, linestyle="--", linewidth=1)
    grid[0, 0].set_ylabel("kept (non-zero) weights (%)")
    grid[1, 0].set_ylabel("bits as dense float32\n/ bits in the file")
    ratios = [_ratio(layer) for layers in panels.values() for layer in layers.values()]
    plotting.log_axis(grid[1, 0].yaxis, [1, *ratios])
    grid[0, 0].lines[0].set_label(
        f"all layers: {_kept(whole):.2f} % kept, {_ratio(whole):.1f} times fewer bits"
    )
    made.align_xlabels()
    return plotting.with_legend(made)


def distributions(weights: Weights) -> Figure | None:
    """Distributions of the weights of a few kernels: trained, pruned and clustered.

    Args:
        weights: The leaves by name of each state of the network.

    Returns:
        A row for the first, a middle and the last convolution and for the largest
        dense layer. None where a state, or any kernel, is missing.
    """
    names = _representative(weights.get("trained", {}))
    if not names or not set(STATES) <= set(weights):
        return None
    made = plotting.figure(
        "Weights trained, pruned and clustered: distributions of non-zero values",
        (11, 1.2 + 2.2 * len(names)),
    )
    grid = made.subplots(len(names), 3, squeeze=False, sharex="row", sharey="row")
    for axes, name in zip(grid, names, strict=True):
        values = [np.asarray(weights[state][name], np.float64) for state in STATES]
        limits = min(v.min() for v in values), max(v.max() for v in values)
        highest = 1
        for ax, state, value in zip(axes, STATES, values, strict=True):
            plotting.label(ax, "", "")
            highest = max(highest, _histogram(ax, value.ravel(), limits, STATES[state]))
        axes[0].set_ylabel(f"{name.removeprefix('params/')}\nnumber of weights")
        axes[0].set_yscale("log")
        # A third of the height is left to the text.
        axes[0].set_ylim(0.7, 2 * highest**1.5)
    for ax, state in zip(grid[0], STATES, strict=True):
        ax.set_title(state, fontsize=10)
    for ax in grid[-1]:
        ax.set_xlabel("value of a weight")
    return made


def _panels(
    weights: Weights, tensors: Sequence[TensorRow]
) -> dict[str, dict[str, TensorRow]]:
    """The layers of each panel that has any."""
    shapes = {n: np.shape(w) for leaves in weights.values() for n, w in leaves.items()}
    flat = [t.name for t in tensors if len(shapes.get(t.name, ())) <= 1]
    only_biases = all(name.endswith("bias") for name in flat)
    others = "biases" if only_biases else "biases and BatchNorm values"
    kinds: dict[str, dict[str, list[TensorRow]]] = {
        "convolutions": {},
        others: {},
        "dense": {},
    }
    for tensor in tensors:
        if tensor.size:
            rank = len(shapes.get(tensor.name, ()))
            kind = "convolutions" if rank > 2 else "dense"
            layers = kinds[kind if rank > 1 else others]
            layers.setdefault(_layer(tensor.name), []).append(tensor)
    return {
        kind: {name: _sum(leaves) for name, leaves in layers.items()}
        for kind, layers in kinds.items()
        if layers
    }


def _layer(name: str) -> str:
    """The name of a leaf's layer, without the collection that the leaf is in."""
    return "/".join(name.split("/")[1:-1]) or name


def _sum(tensors: Sequence[TensorRow]) -> TensorRow:
    return TensorRow(
        "", *(sum(counts) for counts in zip(*(t[1:] for t in tensors), strict=True))
    )


def _kept(row: TensorRow) -> float:
    return 100 * row.kept / row.size


def _ratio(row: TensorRow) -> float:
    return 32 * row.size / row.bits


def _bars(ax: Axes, heights: Mapping[str, float], base: float, color: str) -> None:
    """Bars up, or down, from `base`."""
    ax.bar(range(len(heights)), [h - base for h in heights.values()], 0.7, base,
           color=color)  # fmt: skip
    ax.set_xticks(range(len(heights)), heights, rotation=90, fontsize=8)
    ax.set_xlim(-0.8, len(heights) - 0.2)


def _representative(leaves: Mapping[str, np.ndarray]) -> list[str]:
    """The first, a middle and the last convolution, and the largest dense layer."""
    convolutions = [name for name, leaf in leaves.items() if np.ndim(leaf) > 2]
    dense = [name for name, leaf in leaves.items() if np.ndim(leaf) == 2]
    middle = len(convolutions) // 2
    largest = sorted(dense, key=lambda name: -leaves[name].size)[:1]
    chosen = convolutions[:1] + convolutions[middle:][:1] + convolutions[-1:] + largest
    return [name for name in dict.fromkeys(chosen) if leaves[name].size]


def _histogram(
    ax: Axes, values: np.ndarray, limits: tuple[float, float], color: str
) -> int:
    """Draws how often non-zero values occur: each one if they are shared, else bins.

    Args:
        ax: Where to draw.
        values: The weights, `[n]`.
        limits: The range of the bins, which is the same in a row of panels.
        color: The color of the bars.

    Returns:
        The highest count.
    """
    kept = values[values != 0]
    unique, counts = np.unique(kept, return_counts=True)
    if unique.size * 8 <= kept.size:
        ax.vlines(unique, 0.1, counts, color=color, linewidth=1.5)
        text = f"{kept.size:,} weights\n{unique.size:,} unique values"
    else:
        counts, _, _ = ax.hist(kept, bins=101, range=limits, color=color)
        text = f"{kept.size:,} weights"
    # Rounded down, so that it says 100 % only where nothing is left.
    zeros = math.floor(10000 * (1 - kept.size / values.size)) / 100
    text += f"\n{zeros:g} % zeros, left out"
    ax.text(0.02, 0.96, text, transform=ax.transAxes, va="top", fontsize=8)
    return int(max(counts, default=1))
