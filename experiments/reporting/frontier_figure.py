"""Error against size: our files among all that is published of a network."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from experiments.reporting import plotting
from experiments.reporting.plotting import BLUE, GRAY, ORANGE
from experiments.reporting.published import WRITTEN, Frontier, Size
from experiments.reporting.seeds import Preset, mean_and_deviation

_TITLE = "{} on {}: test error against size"
_MARKS = """of MB: the dense fp32 network
dense %: its error, before it was compressed
ours: whole files; all the network needs is in them
w: weights only, no BatchNorm, biases or tables;
    of other sizes that are no files it is not known
r: recalled, not read again
d: derived, as a size from a ratio
s: second-hand, quoted by others"""
_FONT = 8
_MARKER = 6
# Of the columns of the list, in widths of it: where a text of each begins or ends.
_COLUMNS = (
    *((0.03, "right"), (0.18, "right"), (0.29, "right"), (0.4, "right")),
    *((0.5, "right"), (0.53, "left")),
)
_HEAD = ("", "bytes", "of MB", "dense %", "error %", "method")
_PLAIN = ("black", "normal")
_LINE = 0.19  # inches of height for each line of the list
# Where a number may be from its point, in points of 1/72 inch, the best place first:
# between the steps, which go up and to the right. Farther ones need a line.
_ANGLES = np.pi * np.array([1, 3, 7, 5, 2, 6, 0, 4]) / 4
_MOVES = tuple(
    (float(radius * np.cos(angle)), float(radius * np.sin(angle)))
    for radius in (13, 18, 23, 29, 36, 44, 53, 63, 75, 90)
    for angle in _ANGLES
)
_NEAR = _MOVES[: len(_ANGLES)]


class _Point(NamedTuple):
    """A point, which has a number in the figure and a line in the list.

    Attributes:
        size: The size in bytes, which may be a mean over seeds.
        error: The error in percent, which may be a mean over seeds.
        cells: The texts in the line, without the number.
        measured: How the size was measured, as in `published.Size`, or "ours".
        weights_only: Whether it is known to lack what else the network needs.
        corners: The lowest and the highest size and error of all that is drawn for it.
    """

    size: float
    error: float
    cells: tuple[str, str, str, str, str]
    measured: str
    weights_only: bool
    corners: tuple[tuple[float, float], tuple[float, float]]


def draw(frontier: Frontier, presets: Sequence[Preset]) -> Figure:
    """Draws what is published with a size and an error, and our files.

    Args:
        frontier: What is published of the network.
        presets: Our runs of the network, if there are any.

    Returns:
        A plot whose points are numbered by size, and the list of the numbers.
    """
    published = [
        _of_size(s, size, error, frontier.dense_bytes)
        for s in frontier.sizes
        if (size := s.size) is not None and (error := s.error) is not None
    ]
    ours = [_of_preset(preset) for preset in presets]
    points = sorted([*published, *ours])
    notes = [*frontier.differs.splitlines(), *_MARKS.splitlines()]
    height = max(5.0, 2.1 + _LINE * (len(points) + len(notes)))
    title = _TITLE.format(frontier.network, frontier.dataset)
    made = plotting.figure(title, (11.5, height))
    ax, side = made.subplots(1, 2, width_ratios=(1.15, 1))
    _best(ax, sorted(published))
    _published(ax, published)
    if presets:
        _ours(ax, presets)
    plotting.label(ax, "size (bytes)", "test error of the compressed network (%)")
    plotting.log_axis(ax.xaxis, [size for p in points for size, _ in p.corners])
    ax.margins(y=0.12)
    _list(side, points, notes)
    plotting.with_legend(made)
    # Where the points are on the page is only known once all is laid out.
    made.draw_without_rendering()
    _number(ax, points)
    return made


def _of_size(reported: Size, size: int, error: float, dense_bytes: int) -> _Point:
    marks = "".join(mark[0] for mark in reported.marks)
    method = f"{reported.method} ({marks})" if marks else reported.method
    dense = "-" if reported.dense_error is None else str(reported.dense_error)
    whole = _megabytes(reported.dense_bytes or dense_bytes)
    cells = f"{size:,}", whole, dense, str(error), method
    place = size, error
    weights_only = "weights only" in reported.marks
    return _Point(*place, cells, reported.measured, weights_only, (place, place))


def _of_preset(preset: Preset) -> _Point:
    """The mean over seeds."""
    size, width = mean_and_deviation(preset.sizes)
    error, height = mean_and_deviation(preset.errors)
    dense, _ = mean_and_deviation(preset.dense_errors)
    method = preset.name
    if len(preset.sizes) > 1:
        method += f", {len(preset.sizes)} seeds"
    low = min(size - width, *preset.sizes), min(error - height, *preset.errors)
    high = max(size + width, *preset.sizes), max(error + height, *preset.errors)
    whole = _megabytes(preset.dense_bytes)
    cells = f"{size:,.0f}", whole, f"{dense:.2f}", f"{error:.2f}", method
    return _Point(size, error, cells, "ours", False, (low, high))


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f}"


def _best(ax: Axes, points: Sequence[_Point]) -> None:
    """Draws steps along the published points with the least error up to their size.

    Args:
        ax: Where to draw.
        points: The points, sorted by size.
    """
    best: list[_Point] = []
    for point in points:
        if not best or point.error < best[-1].error:
            best.append(point)
    ax.step(
        [p.size for p in best], [p.error for p in best], where="post", color=GRAY,
        linewidth=0.8, linestyle=":", label="best published, however measured",
    )  # fmt: skip


def _published(ax: Axes, points: Sequence[_Point]) -> None:
    """Draws points: filled if bytes were written, and square if some are missing."""
    for label, fill, written in (
        ("published: a file or coded bytes", BLUE, True),
        ("published: computed or estimated", "white", False),
    ):
        for shape, beside, lacking in (("o", "", False), ("s", ", weights only", True)):
            shown = [
                p
                for p in points
                if (p.measured in WRITTEN) == written and p.weights_only == lacking
            ]
            if shown or not lacking:
                ax.plot(
                    [p.size for p in shown], [p.error for p in shown], shape,
                    color=BLUE, markerfacecolor=fill, markersize=_MARKER,
                    label=label + beside,
                )  # fmt: skip


def _ours(ax: Axes, presets: Sequence[Preset]) -> None:
    """Draws all files, and the mean of each preset with its standard deviations."""
    ax.plot(
        [s for p in presets for s in p.sizes], [e for p in presets for e in p.errors],
        "o", color=ORANGE, markersize=3, alpha=0.7, zorder=3,
        label="ours: a file, one for each seed",
    )  # fmt: skip
    sizes, errors = (
        np.array([mean_and_deviation(values) for values in column])
        for column in zip(*((p.sizes, p.errors) for p in presets), strict=True)
    )
    ax.errorbar(
        sizes[:, 0], errors[:, 0], errors[:, 1], sizes[:, 1], fmt="*", color=ORANGE,
        markersize=11, capsize=3, elinewidth=1.2, zorder=4,
        label="ours: mean and standard deviation",
    )  # fmt: skip


def _list(ax: Axes, points: Sequence[_Point], notes: Sequence[str]) -> None:
    """Writes a line for each point, in the order of their numbers; ours stand out."""
    ax.set_axis_off()
    _line(ax, 0, _HEAD, color=GRAY)
    for number, point in enumerate(points, 1):
        color, weight = (ORANGE, "bold") if point.measured == "ours" else _PLAIN
        cells = (str(number), *point.cells)
        _line(ax, number, cells, color=color, fontweight=weight)
    for number, note in enumerate(notes, len(points) + 1):
        # Notes begin where the first column does, which is right-aligned.
        _annotate(ax, number + 0.5, note, (0.0, "left"), color=GRAY)


def _line(ax: Axes, line: float, cells: Sequence[str], **style: Any) -> None:
    for text, column in zip(cells, _COLUMNS, strict=True):
        _annotate(ax, line, text, column, **style)


def _annotate(
    ax: Axes, line: float, text: str, column: tuple[float, str], **style: Any
) -> None:
    x, side = column
    ax.annotate(
        text, (x, 1), (0, -72 * _LINE * line), xycoords="axes fraction",
        textcoords="offset points", fontsize=_FONT, ha=side, va="top",
        in_layout=False, **style,
    )  # fmt: skip


def _number(ax: Axes, points: Sequence[_Point]) -> None:
    """Writes the number of each point beside it, where it covers nothing."""
    page = 72 / ax.figure.dpi  # points a pixel
    places = page * ax.transData.transform([(p.size, p.error) for p in points])
    taken = [
        Bbox(page * ax.transData.transform(point.corners)).padded(_MARKER - 1)
        for point in points
    ]
    inside = Bbox(page * ax.bbox.get_points())
    for number, (point, place) in enumerate(zip(points, places, strict=True), 1):
        half = np.array([0.35 * _FONT * len(str(number)), 0.5 * _FONT])
        room = inside.padded(*-half)
        boxes = {move: Bbox([place + move - half, place + move + half])
                 for move in _MOVES}  # fmt: skip
        free = (
            move
            for move, box in boxes.items()
            if room.contains(*place + move)
            and not box.count_overlaps(taken)
            and (move not in _NEAR or _nearest(places, place + move) == number - 1)
        )
        move = next(free, _MOVES[-1])  # the last where the plot is full
        taken.append(boxes[move])
        line = {"arrowstyle": "-", "color": GRAY, "linewidth": 0.6, "shrinkA": 0}
        ax.annotate(
            str(number), (point.size, point.error), move, textcoords="offset points",
            fontsize=_FONT, ha="center", va="center", in_layout=False,
            color=ORANGE if point.measured == "ours" else "black",
            arrowprops=None if move in _NEAR else line,
        )  # fmt: skip


def _nearest(places: np.ndarray, center: np.ndarray) -> int | None:
    """The place that is clearly the nearest to a center; None if none is."""
    distances = np.linalg.norm(places - center, axis=1)
    first = int(np.argmin(distances))
    rivals = np.delete(distances, first)
    return first if np.all(rivals > 1.3 * distances[first]) else None
