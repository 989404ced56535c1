"""The figures of a run: which are drawn, what they say, where their points are."""

import math
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from experiments.reporting import figures, layer_figures, plotting
from experiments.reporting.figures import MEASURES, Log, TensorRow
from experiments.training.runs import Row
from tests.support import legible


def _epochs(phase: str, *errors: tuple[float, float]) -> list[Row]:
    return [
        {"phase": phase, "epoch": i, "rate": 0.1 / i, "loss": 1.0,
         "train_error": train, "watch_error": watch, "seconds": 1.0}
        for i, (train, watch) in enumerate(errors, start=1)
    ]  # fmt: skip


def _pruned(i: int, nonzero: int, error: float, unique: int, shared: float) -> Row:
    return {"phase": f"prune-{i:02d}-end", "iteration": i, "nonzero": nonzero,
            "watch_error": error, "shared_unique": unique,
            "shared_watch_error": shared, "seconds": 1.0}  # fmt: skip


def _shared(phase: str, nonzero: int, unique: int, error: float) -> Row:
    return {"phase": phase, "nonzero": nonzero, "unique": unique,
            "watch_error": error, "seconds": 1.0}  # fmt: skip


PARAMETERS = 2000
ROWS: list[Row] = [
    *_epochs("dense", (60.0, 50.0), (30.0, 20.0)),
    {"phase": "dense-end", "watch_error": 20.0, "seconds": 1.0},
    *_epochs("prune-01", (25.0, 22.0)),
    _pruned(1, 1000, 22.0, 50, 24.0),
    *_epochs("prune-02", (26.0, 23.0)),
    _pruned(2, 200, 23.0, 40, 30.0),
    _shared("kmeans-start", 200, 40, 30.0),
    *_epochs("kmeans", (28.0, 27.0), (26.0, 25.0)),
    _shared("kmeans-end", 200, 40, 25.0),
    _shared("nonparametric-start", 200, 10, 40.0),
    *_epochs("nonparametric", (38.0, 35.0)),
    _shared("nonparametric-end", 200, 10, 35.0),
    {"phase": "test", "dense_test_error": 21.0, "test_error": 26.0, "seconds": 1.0},
]
LOG = Log(ROWS, PARAMETERS, "validation")

SHAPES = {
    "batch_stats/bn1/mean": (8,),
    "params/bn1/bias": (8,),
    "params/conv1/kernel": (3, 3, 3, 8),
    "params/conv2/kernel": (3, 3, 8, 8),
    "params/conv3/kernel": (3, 3, 8, 8),
    "params/fc1/bias": (16,),
    "params/fc1/kernel": (8, 16),
    "params/fc2/kernel": (16, 10),
}


def _weights() -> dict[str, dict[str, np.ndarray]]:
    """Trained; pruned to one half; shared between two values."""
    rng = np.random.default_rng(0)
    trained = {
        n: rng.normal(size=shape).astype(np.float32) for n, shape in SHAPES.items()
    }
    pruned = {
        n: np.where(np.abs(w) < np.median(np.abs(w)), 0, w) for n, w in trained.items()
    }
    clustered = {n: np.sign(w) for n, w in pruned.items()}
    return {"trained": trained, "pruned": pruned, "clustered": clustered}


TENSORS = [
    TensorRow(name, int(np.prod(shape)), int(np.prod(shape)) // 2, 800)
    for name, shape in SHAPES.items()
]

CURVES = {*MEASURES, "fig4a_fine_tuning_kmeans", "fig4b_fine_tuning_nonparametric",
          "fig_pruning", "fig_training"}  # fmt: skip
LAYERS = {"fig5_compression_by_layer", "fig_weights"}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    directory = tmp_path_factory.mktemp("figures")
    return figures.draw(directory, ROWS, _weights(), TENSORS, PARAMETERS, "validation")


def test_every_figure_is_a_png_that_fits_a_page(drawn: list[Path]):
    assert {path.name for path in drawn} == {f"{name}.png" for name in CURVES | LAYERS}
    for path in drawn:
        data = path.read_bytes()
        assert data.startswith(b"\x89PNG\r\n\x1a\n")
        width, height = struct.unpack(">II", data[16:24])
        assert 900 <= width <= 2000
        assert 600 <= height <= 1600
        assert 10_000 < len(data) < 500_000


@pytest.mark.parametrize(
    ("rows", "missing"),
    [
        pytest.param([], CURVES, id="nothing logged"),
        pytest.param(ROWS[:3], CURVES - {"fig_training"}, id="dense only"),
        pytest.param(
            [r for r in ROWS if not r["phase"].startswith("nonparametric")],
            {"fig4b_fine_tuning_nonparametric"},
            id="k-means only",
        ),
        pytest.param(
            [r for r in ROWS if not r["phase"].startswith("prune")],
            {"fig_pruning"},
            id="no pruning",
        ),
        pytest.param(
            [r for r in ROWS if "epoch" not in r], {"fig_training"}, id="no epochs"
        ),
    ],
)
def test_what_was_not_logged_is_not_drawn(
    rows: list[Row], missing: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Figure, "savefig", lambda _, path, **__: path.touch())
    paths = figures.draw(tmp_path, rows, {}, [], PARAMETERS, "test")
    assert {path.stem for path in paths} == CURVES - missing
    assert set(paths) == set(tmp_path.iterdir())


def _drawn(figure: Figure | None) -> Figure:
    assert figure is not None
    return figure


def _points(ax: Axes, label: str) -> list[tuple[float, float]]:
    """Coordinates of the points of a line, or of a scatter, with that label."""
    for line in ax.lines:
        if label in str(line.get_label()):
            return [(float(x), float(y)) for x, y in np.asarray(line.get_xydata())]
    for marks in ax.collections:
        if label in str(marks.get_label()):
            return [(float(x), float(y)) for x, y in np.asarray(marks.get_offsets())]
    raise AssertionError(f"nothing is labeled {label}")


def _bars(ax: Axes) -> list[Rectangle]:
    return [patch for patch in ax.patches if isinstance(patch, Rectangle)]


def _legend(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


FIGURES: dict[str, Callable[..., Figure | None]] = {
    **{
        name: lambda log, *_, measure=measure: figures.accuracy_against(log, measure)
        for name, measure in MEASURES.items()
    },
    "fig4a": lambda log, *_: figures.fine_tuning(log, "kmeans"),
    "fig4b": lambda log, *_: figures.fine_tuning(log, "nonparametric"),
    "fig5": lambda _, weights, tensors: layer_figures.compression(weights, tensors),
    "fig_weights": lambda _, weights, __: layer_figures.distributions(weights),
    "fig_training": lambda log, *_: figures.training(log),
    "fig_pruning": lambda log, *_: figures.pruning(log),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_have_titles_and_labels(name: str):
    figure = _drawn(FIGURES[name](LOG, _weights(), TENSORS))
    plots = [ax for ax in figure.axes if ax.get_label() != "<colorbar>"]

    assert len(figure.get_suptitle()) > 25
    for ax in plots:
        place = ax.get_subplotspec()
        assert place is not None
        assert ax.get_ylabel() or not place.is_first_col()
        assert ax.get_xlabel() or not place.is_last_row()


def _crowded() -> tuple[Log, dict[str, dict[str, np.ndarray]], list[TensorRow]]:
    """A run with the slides' 25 iterations of 25 epochs and 19 layers."""
    rows = _epochs("dense", *100 * [(30.0, 20.0)])
    for i in range(1, 26):
        rows += _epochs(f"prune-{i:02d}", *25 * [(25.0, 22.0)])
        rows.append(_pruned(i, round(PARAMETERS * 0.9**i), 20 + i / 10, 75 - i, 20 + i))
    rows += [r for r in ROWS if r["phase"].startswith(("kmeans", "nonparametric"))]
    names = [f"{layer}{i}_{j}" for layer in ("conv", "bn") for i in range(1, 5)
             for j in range(1, 5)]  # fmt: skip
    shapes = {f"params/{n}/kernel": (3, 3, 4, 4) for n in names if n.startswith("conv")}
    shapes |= {f"params/{n}/bias": (4,) for n in names}
    shapes |= {f"params/fc{i}/kernel": (8, 8) for i in range(1, 4)}
    leaves = {n: np.linspace(-1, 1, math.prod(s)).reshape(s) for n, s in shapes.items()}
    tensors = [TensorRow(n, w.size, w.size // 2, 99) for n, w in leaves.items()]
    return Log(rows, PARAMETERS, "test"), dict.fromkeys(_weights(), leaves), tensors


@pytest.mark.parametrize("name", FIGURES)
def test_no_text_lies_on_another_or_sticks_out(
    name: str, monkeypatch: pytest.MonkeyPatch
):
    legible.assert_legible(_drawn(FIGURES[name](*_crowded())), monkeypatch)


@pytest.mark.parametrize(
    ("name", "iterations", "kmeans", "nonparametric"),
    [
        # 50 unique of 1000 kept, then 40 of 200; of 2000 parameters
        ("fig_unique_per_nonzero", (5.0, 20.0), 20.0, 5.0),
        ("fig1_2_unique_per_parameters", (2.5, 2.0), 2.0, 0.5),
        ("fig3_parameters_per_unique", (40.0, 50.0), 50.0, 200.0),
    ],
)
def test_accuracy_against_the_slides_measures(
    name: str, iterations: tuple[float, float], kmeans: float, nonparametric: float
):
    (ax, *_) = _drawn(figures.accuracy_against(LOG, MEASURES[name])).axes

    assert _points(ax, "after an iteration") == [
        (iterations[0], 76.0),
        (iterations[1], 70.0),
    ]
    assert _points(ax, "k-means, fine-tuned: 75.00 %") == [(kmeans, 75.0)]
    assert _points(ax, "non-parametric, fine-tuned") == [(nonparametric, 65.0)]
    assert _points(ax, "dense network: 80.00 %") == [(0.0, 80.0), (1.0, 80.0)]
    assert ax.get_xscale() == "log"
    assert ax.get_ylabel() == "accuracy on validation data (%)"


COUNTS = st.lists(st.tuples(st.integers(1, 50), st.sampled_from((60, 600))), max_size=4)


@given(
    iterations=COUNTS,
    ends=st.dictionaries(
        st.sampled_from(("kmeans", "nonparametric")), st.sampled_from((40, 50))
    ),
    name=st.sampled_from(sorted(MEASURES)),
)
def test_a_measure_that_does_not_vary_is_not_drawn(
    iterations: list[tuple[int, int]], ends: dict[str, int], name: str
):
    """Neither for one x of all iterations, nor for one of all fine-tuned networks."""
    rows = [_pruned(i, n, 20.0, u, 25.0) for i, (u, n) in enumerate(iterations, 1)]
    rows += [_shared(f"{m}-end", 200, unique, 25.0) for m, unique in ends.items()]
    per_nonzero = name == "fig_unique_per_nonzero"
    measured = {Fraction(u, n if per_nonzero else 1) for u, n in iterations}
    varies = len(measured or set(ends.values())) > 1

    log = Log(rows, PARAMETERS, "test")
    assert (figures.accuracy_against(log, MEASURES[name]) is not None) == varies


def test_figure_3_says_that_it_counts_no_stored_bytes():
    measure = MEASURES["fig3_parameters_per_unique"]
    figure = _drawn(figures.accuracy_against(LOG, measure))
    assert "no ratio of stored bytes" in figure.get_suptitle()


def test_fine_tuning_begins_at_the_shared_network():
    (ax,) = _drawn(figures.fine_tuning(LOG, "kmeans")).axes

    assert _points(ax, "validation data") == [(0.0, 70.0), (1.0, 73.0), (2.0, 75.0)]
    assert _points(ax, "training data") == [(1.0, 72.0), (2.0, 74.0)]
    assert _points(ax, "pruned network: 77.00 %")[0] == (0.0, 77.0)
    assert _points(ax, "dense network: 80.00 %")[0] == (0.0, 80.0)


def test_pruning_runs_from_many_weights_to_few():
    (ax,) = _drawn(figures.pruning(LOG)).axes

    assert _points(ax, "pruned and retrained") == [(50.0, 78.0), (10.0, 77.0)]
    assert _points(ax, "then shared") == [(50.0, 76.0), (10.0, 70.0)]
    left, right = ax.get_xlim()
    assert left > 50 > 10 > right


def test_training_counts_the_epochs_of_all_phases():
    figure = _drawn(figures.training(LOG))
    top, bottom = figure.axes
    watched = [
        np.asarray(line.get_xydata()) for line in top.lines[: len(top.lines) // 2]
    ]

    assert np.concatenate(watched).tolist() == [
        [1, 50], [2, 20], [3, 22], [4, 23], [5, 27], [6, 25], [7, 35],
    ]  # fmt: skip
    assert [np.asarray(line.get_xdata()).tolist() for line in bottom.lines] == [
        [1, 2], [3], [4], [5, 6], [7],
    ]  # fmt: skip
    shades = [(p.get_x(), p.get_x() + p.get_width()) for p in _bars(top)]
    assert shades == [(2.5, 3.5), (4.5, 6.5)]
    (names,) = top.child_axes  # of the names above the phases
    assert [t.get_text() for t in names.get_xticklabels()] == [
        "dense", "prune-01", "prune-02", "k-means", "non-parametric",
    ]  # fmt: skip
    assert _legend(figure) == ["validation data", "training data, mean over the epoch"]


def test_layers_are_grouped_as_on_the_slides():
    figure = _drawn(layer_figures.compression(_weights(), TENSORS))
    kept, bits = np.reshape(np.array(figure.axes, object), (2, 3))

    assert [ax.get_title() for ax in kept] == [
        "convolutions", "biases and BatchNorm values", "dense",
    ]  # fmt: skip
    layers = [[t.get_text() for t in ax.get_xticklabels()] for ax in bits]
    assert layers == [["conv1", "conv2", "conv3"], ["bn1", "fc1"], ["fc1", "fc2"]]
    heights = [[p.get_height() for p in _bars(ax)] for ax in kept]
    assert heights == [[50.0, 50.0, 50.0], [50.0, 50.0], [50.0, 50.0]]
    # bn1: two leaves of 8 float32 in 800 bits each; bars begin at a ratio of 1
    ratios = [[p.get_height() + 1 for p in _bars(ax)] for ax in bits]
    assert ratios[0] == pytest.approx([32 * n / 800 for n in (216, 576, 576)])
    assert ratios[1] == pytest.approx([32 * 16 / 1600, 32 * 16 / 800])
    assert _legend(figure) == ["all layers: 50.00 % kept, 8.4 times fewer bits"]


def test_empty_leaves_have_no_bar():
    empty = TensorRow("params/none/kernel", 0, 0, 80)
    assert layer_figures.compression(_weights(), [empty]) is None
    figure = _drawn(layer_figures.compression(_weights(), [*TENSORS, empty]))
    assert sum(len(ax.patches) for ax in figure.axes) == 2 * 7


def test_distributions_of_the_first_middle_and_last_convolution_and_largest_dense():
    figure = _drawn(layer_figures.distributions(_weights()))
    grid = np.reshape(np.array(figure.axes, object), (4, 3))

    assert [ax.get_ylabel().split("\n")[0] for ax in grid[:, 0]] == [
        "conv1/kernel", "conv2/kernel", "conv3/kernel", "fc2/kernel",
    ]  # fmt: skip
    assert [ax.get_title() for ax in grid[0]] == ["trained", "pruned", "clustered"]
    texts = [ax.texts[0].get_text() for ax in grid[1]]
    assert texts == [
        "576 weights\n0 % zeros, left out",
        "288 weights\n50 % zeros, left out",
        "288 weights\n2 unique values\n50 % zeros, left out",
    ]
    counts = [sum(p.get_height() for p in _bars(ax)) for ax in grid[1, :2]]
    assert counts == [576, 288]
    lines = np.array(grid[1, 2].collections[0].get_segments())
    assert lines[:, 0, 0].tolist() == [-1, 1]
    assert lines[:, 1, 1].sum() == 288
    figure.draw_without_rendering()
    for ax in grid.flat:
        highest = ax.transData.transform((0, ax.dataLim.y1))[1]
        assert ax.texts[0].get_window_extent().y0 > highest


def test_a_layer_that_was_pruned_to_nothing():
    weights = _weights()
    for state in ("pruned", "clustered"):
        weights[state]["params/conv1/kernel"] *= 0
    figure = _drawn(layer_figures.distributions(weights))
    assert figure.axes[2].texts[0].get_text() == (
        "0 weights\n0 unique values\n100 % zeros, left out"
    )
    figure.draw_without_rendering()


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        pytest.param([3.0], {"2", "5"}, id="one value has room around it"),
        pytest.param([0.00002, 0.0004], {"0.00005", "0.0001"}, id="no exponents"),
        pytest.param([1.0, 1e6], {"1", "1,000,000"}, id="wide: powers of ten"),
    ],
)
def test_logarithmic_axes_have_plain_numbers(values: list[float], shown: set[str]):
    figure = plotting.figure("test")
    ax = figure.subplots()
    plotting.log_axis(ax.xaxis, values)
    figure.draw_without_rendering()

    low, high = ax.get_xlim()
    assert low < min(values) <= max(values) < high
    assert high / low >= 7.99
    labels = {
        t.get_text()
        for t, at in zip(ax.get_xticklabels(), ax.get_xticks(), strict=True)
        if low <= at <= high
    }
    assert labels >= shown
    assert not any("e" in text for text in labels)
