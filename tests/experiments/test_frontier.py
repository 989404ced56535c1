"""Our files among those published: the data, the seeds, the table, the figures."""

import json
import re
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from experiments import frontier
from experiments.reporting import frontier_figure, seeds
from experiments.reporting.published import FRONTIERS, Frontier, Size
from experiments.reporting.seeds import Preset
from tests.support import legible

LENET300, LENET5, VGG = FRONTIERS


def _report(
    directory: Path,
    size: int,
    error: float,
    network: str = "LeNet-5",
    seed: int | None = None,
) -> None:
    directory.mkdir(parents=True)
    named = re.search(r"-seed(\d+)", str(directory))
    own = int(named[1]) if named else 0
    report = {
        **{"network": network, "dataset": "MNIST", "dense_bytes": 1_724_320},
        **{"file_bytes": size, "test_error": error, "dense_test_error": 0.5},
        "seed": own if seed is None else seed,
    }
    (directory / "report.json").write_text(json.dumps(report))


def _preset(name: str, *files: tuple[int, float]) -> Preset:
    sizes, errors = zip(*files, strict=True)
    dense = tuple(0.5 for _ in files)
    return Preset(name, "LeNet-5", "MNIST", 1_724_320, sizes, errors, dense)


def _legend(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


SIZES = [
    pytest.param(of, size, id=f"{of.key} {size.method} {size.error}")
    for of in FRONTIERS
    for size in of.sizes
]


@pytest.mark.parametrize(("of", "size"), SIZES)
def test_what_is_published_is_consistent(of: Frontier, size: Size):
    assert (size.size is None) == (size.measured == "no bytes")
    if size.size is not None and size.ratio is not None:
        # Sizes and ratios are printed rounded, and of slightly different networks.
        assert size.size * size.ratio == pytest.approx(of.dense_bytes, rel=0.03)
    assert size.error is None or 0.5 < size.error < 15
    assert size.source and (size.size is not None or size.note)


@pytest.mark.parametrize(("of", "size"), SIZES)
def test_a_derived_size_is_exact(of: Frontier, size: Size):
    if "derived" in size.marks and size.size is not None and size.ratio is not None:
        percent = re.match(r"([\d.]+) % of the dense bytes", size.note)
        fraction = float(percent[1]) / 100 if percent else 1 / size.ratio
        assert size.size == round(of.dense_bytes * fraction)


def test_seeds_of_a_preset_come_together(tmp_path: Path):
    _report(tmp_path / "small", 100, 1.0)
    _report(tmp_path / "small-seed1", 104, 1.5)
    _report(tmp_path / "small-seed12", 102, 2.0)
    _report(tmp_path / "smallest", 50, 3.0)
    _report(tmp_path / "other-seed3", 70, 4.0)
    _report(tmp_path / "vgg" / "small", 90, 5.0, "VGG19")
    _report(tmp_path / "small" / "grid-2", 60, 6.0)
    _report(tmp_path / "small-seed1" / "grid-2", 62, 6.5)
    (tmp_path / "benchmarks").mkdir()

    assert [(p.name, p.network, p.sizes, p.errors) for p in seeds.read(tmp_path)] == [
        ("other", "LeNet-5", (70,), (4.0,)),
        ("small", "LeNet-5", (100, 104, 102), (1.0, 1.5, 2.0)),
        ("small/grid-2", "LeNet-5", (60, 62), (6.0, 6.5)),
        ("smallest", "LeNet-5", (50,), (3.0,)),
        ("vgg/small", "VGG19", (90,), (5.0,)),
    ]


def test_what_is_no_other_seed_of_a_preset(tmp_path: Path):
    _report(tmp_path / "small", 100, 1.0)
    _report(tmp_path / "small-seed1", 104, 1.5, "VGG19")
    with pytest.raises(ValueError, match="small: its seeds have different network"):
        seeds.read(tmp_path)
    (tmp_path / "small-seed1" / "report.json").unlink()
    _report(tmp_path / "small-seed2", 104, 1.5, seed=0)
    with pytest.raises(ValueError, match="small: two runs of one seed"):
        seeds.read(tmp_path)


@pytest.mark.parametrize(
    ("values", "digits", "text"),
    [
        ((7157, 7068, 7093), 0, "7,106 ± 46"),
        ((1.31, 1.07, 1.26), 2, "1.21 ± 0.13"),
        ((25895,), 0, "25,895"),
    ],
)
def test_the_deviation_is_that_of_the_sample(
    values: tuple[float, ...], digits: int, text: str
):
    assert seeds.spread(values, digits) == text


def _part(text: str, of: Frontier) -> list[str]:
    """The rows of a network in the table."""
    (part,) = (p for p in text.split("\n\n") if p.startswith(f"{of.network} on "))
    lines = part.strip().split("\n")
    (head,) = (i for i, line in enumerate(lines) if line.split()[0] == "method")
    return lines[head + 1 :]


def test_the_table_has_every_row_by_size():
    mine = _preset("mine", (3_000, 0.7), (3_100, 0.8))
    text = "\n".join(frontier.lines([mine]))

    for of in FRONTIERS:
        rows = _part(text, of)
        assert len(rows) == len(of.sizes) + (of is LENET5)
        for size in of.sizes:
            bytes_ = "-" if size.size is None else f"{size.size:,}"
            assert any(
                size.method in row and f" {bytes_} " in row and size.source in row
                and size.measured in row and row.endswith(size.note)
                for row in rows
            ), size  # fmt: skip
    rows = _part(text, LENET5)
    (at,) = (i for i, row in enumerate(rows) if row.startswith("*"))
    assert "ours: mine" in rows[at]
    assert "3,050 ± 71" in rows[at] and "0.75 ± 0.07" in rows[at]
    assert "3,030" in rows[at - 1] and "4,115" in rows[at + 1]
    assert all(" no bytes " in row for row in rows[-16:])


def _cells(row: str) -> list[str]:
    return re.split(r"\s{2,}", row.lstrip("* "))


def test_the_table_says_what_each_size_began_from_and_leaves_out():
    mine = Preset(
        *("best", "VGG19", "CIFAR-10", 155_879_720, (120_031,), (7.9,), (5.46,))
    )
    rows = ["\n".join(frontier.lines([mine])).split("\n\n")[-1].splitlines()]
    # bytes, MB of the dense network, ratio, its error, the error, how it was measured
    by_method = {cells[0]: cells[1:] for cells in map(_cells, rows[0])}
    assert by_method["ours: best"][:6] == [
        *("120,031", "155.9", "1299", "5.46", "7.90", "whole file")
    ]
    assert by_method["LilNetX"][:6] == [
        *("129,000", "60.0", "465", "6.6", "7.4", "coded bytes")
    ]
    assert by_method["LilNetX"][7].startswith("weights only, second-hand; no BatchNorm")
    assert by_method["MPT"][:5] == ["161,000", "18.4", "-", "-", "8.52"]
    text = " ".join(rows[0][1:3])
    assert "60 MB" in text and "155.9 MB" in text and "not ratios" in text


def test_the_figure_says_it_too():
    mine = Preset(
        *("best", "VGG19", "CIFAR-10", 155_879_720, (120_031,), (7.9,), (5.46,))
    )
    figure = frontier_figure.draw(VGG, [mine])
    ax, side = figure.axes
    texts = [text.get_text() for text in side.texts]
    at = texts.index("best")
    assert texts[at - 4 : at] == ["120,031", "155.9", "5.46", "7.90"]
    at = texts.index("LilNetX (ws)")
    assert texts[at - 4 : at] == ["129,000", "60.0", "6.6", "7.4"]
    assert set(VGG.differs.splitlines()) <= set(texts)
    squares = [line for line in ax.lines if line.get_marker() == "s"]
    drawn = {tuple(place) for line in squares for place in line.get_xydata()}
    assert {(129_000, 7.4), (384_000, 6.57)} <= drawn
    assert (101_000, 10.0) not in drawn and (525_000, 9.2) not in drawn


def test_other_networks_and_data_are_left_out():
    digits = Preset(
        *("demo", "VGG19_BN_drop_10", "digits", 2_469_960, (62_077,), (2.2,), (1.4,))
    )
    cifar = digits._replace(name="cpu", dataset="CIFAR-10")

    assert frontier.ours(VGG, [digits, cifar]) == [cifar]
    assert frontier.ours(LENET5, [digits, cifar]) == []


def test_what_has_no_size_or_no_error_is_not_drawn():
    figure = frontier_figure.draw(LENET5, [])
    (numbers,) = ([t.get_text() for t in ax.texts] for ax in figure.axes[:1])
    drawn = [s for s in LENET5.sizes if s.size is not None and s.error is not None]
    assert numbers == [str(i) for i in range(1, len(drawn) + 1)]
    assert not any(label.startswith("ours") for label in _legend(figure))


def test_filled_points_are_of_bytes_that_were_written():
    ax = frontier_figure.draw(LENET5, []).axes[0]
    points = {line.get_label(): line for line in ax.lines}
    filled = points["published: a file or coded bytes"]
    hollow = points["published: computed or estimated"]

    assert {(1140, 0.98), (2840, 1.0)} <= {(x, y) for x, y in filled.get_xydata()}
    assert {(3030, 0.69), (44000, 0.74)} <= {(x, y) for x, y in hollow.get_xydata()}
    assert hollow.get_markerfacecolor() == "white" != filled.get_markerfacecolor()


def test_the_best_are_those_that_no_smaller_one_is_better_than():
    ax = frontier_figure.draw(LENET5, []).axes[0]
    (best,) = (line for line in ax.lines if "best" in str(line.get_label()))
    assert best.get_xydata().tolist() == [
        [1140, 0.98], [1520, 0.96], [1694, 0.83], [3030, 0.69],
    ]  # fmt: skip


def test_every_file_of_ours_is_drawn_and_the_mean():
    files = ((1000, 0.8), (1100, 0.9), (1200, 1.0))
    ax = frontier_figure.draw(LENET5, [_preset("mine", *files)]).axes[0]
    (dots,) = (line for line in ax.lines if "a file, one" in str(line.get_label()))
    (mean,) = (line for line in ax.lines if line.get_marker() == "*")

    assert dots.get_xydata().tolist() == [list(file) for file in files]
    assert mean.get_xydata().tolist() == [[1100, pytest.approx(0.9)]]


@pytest.mark.parametrize("of", FRONTIERS, ids=lambda of: of.key)
@pytest.mark.parametrize("count", [0, 1, 8])
def test_no_text_lies_on_another_or_sticks_out(
    of: Frontier, count: int, monkeypatch: pytest.MonkeyPatch
):
    low = min(size.size for size in of.sizes if size.size is not None)
    error = min(size.error for size in of.sizes if size.error is not None)
    presets = [
        Preset(
            f"{of.key}-smallest{i}", of.network, of.dataset, of.dense_bytes,
            tuple(round(low * 1.02**i * (1 + j / 100)) for j in range(5)),
            tuple(error * 1.01**i * (1 + j / 50) for j in range(5)),
            (error,) * 5,
        )
        for i in range(count)
    ]  # fmt: skip
    legible.assert_legible(frontier_figure.draw(of, presets), monkeypatch)


def test_results_of_one_network_only(tmp_path: Path, capsys: pytest.CaptureFixture):
    _report(tmp_path / "small", 3_000, 0.75)
    frontier.main([str(tmp_path)])

    names = ["frontier.txt", *(f"frontier_{of.key}.png" for of in FRONTIERS)]
    assert capsys.readouterr().out.split() == [str(tmp_path / name) for name in names]
    for name in names[1:]:
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    table = (tmp_path / "frontier.txt").read_text()
    assert [line for line in table.splitlines() if line.startswith("*")] == [
        row for row in _part(table, LENET5) if "ours: small" in row
    ]


def test_the_same_bytes_each_time(tmp_path: Path):
    presets = [_preset("small", (3_000, 0.75))]
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        frontier.write(tmp_path / name, presets)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_an_empty_directory_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit):
        frontier.main([str(tmp_path)])
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.endswith(f"{tmp_path}: no report.json of any run is under it")
    assert list(tmp_path.iterdir()) == []
