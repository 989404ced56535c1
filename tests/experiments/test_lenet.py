"""The paper's LeNets: their sizes, and a tiny run with its tables and Figure 6."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import deepcomp_jax as dc
from deepcomp_jax import account
from experiments import lenet_mnist, protocol
from experiments.data.datasets import Dataset
from experiments.models import lenet
from experiments.reporting import comparison, published
from experiments.study import tradeoff
from tests.support.killing import assert_same_outcome, run_killed

TINY = dataclasses.replace(
    lenet_mnist.PAPER300,
    width=0.1,
    dropout=0.0,
    dense_rate=0.05,
    rates=(0.05,),
    validation=40,
    batch=10,
    dense_epochs=4,
    iterations=2,
    epochs=(2,),
    tune_epochs=1,
    steps=(0.1,),
)


def blots(_: Path | None = None) -> Dataset:
    """Ten noisy blots, which a network can tell apart."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 240).astype(np.int32)
    blots = rng.integers(0, 200, (10, 7, 7)).astype(np.uint8)
    images = np.kron(blots[labels], np.ones((1, 4, 4), np.uint8))[..., None]
    images += rng.integers(0, 50, images.shape).astype(np.uint8)
    return Dataset("blots", images[:200], labels[:200], images[200:], labels[200:], 10)


def run(directory: Path) -> None:
    """Runs the tiny study, or what is left of it; two points of Figure 6 are enough."""
    network = lenet_mnist.NETWORKS["lenet300"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tradeoff, "FACTORS", (1.0,))
        patch.setattr(tradeoff, "BITS", (2,))
        model = network.build(TINY, 10)
        protocol.run(TINY, model, network.roles, blots(), directory)


@pytest.mark.parametrize(
    ("network", "parameters"), [("lenet300", 266_610), ("lenet5", 431_080)]
)
def test_counts_of_parameters(network: str, parameters: int):
    build = lenet_mnist.NETWORKS[network].build
    model = build(lenet_mnist.NETWORKS[network].presets["paper"], 10)
    images = jnp.zeros((1, 28, 28, 1))
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == parameters
    assert set(shapes["params"]) == set(lenet_mnist.NETWORKS[network].roles.layers)
    assert lenet.rebuild(shapes) == model.clone(dropout=0.0)


def test_black_pixels_teach_nothing():
    model = lenet.LeNet300((4, 3))
    black = jnp.full((2, 28, 28, 1), (0 - 127.5) / 64)
    variables = jax.jit(model.init)(jax.random.key(0), black)
    gradient = jax.grad(lambda v: model.apply(v, black).sum())
    grads = jax.jit(gradient)(variables)["params"]
    assert (grads["ip1"]["kernel"] == 0).all()
    assert (grads["ip3"]["bias"] != 0).all()


def test_the_file_keeps_what_the_paper_keeps(finished: Path):
    params = dc.load(finished / "model.dcz")["params"]
    for name, layer in lenet_mnist.LENET300.layers.items():
        kernel = params[name]["kernel"]
        kept = np.count_nonzero(kernel)
        assert kept == pytest.approx(layer.kept * kernel.size, abs=1), name
        assert len(np.unique(kernel)) <= 2**layer.bits + 1


def test_it_learns_and_loses_little(finished: Path):
    report = json.loads((finished / "report.json").read_text())
    assert report["dense_test_error"] < 50
    assert report["test_error"] < 50


def test_the_report_has_the_papers_tables(finished: Path):
    text = (finished / "report.txt").read_text()
    words = [line.split() for line in text.splitlines()]
    for row in published.LENET300.rows:
        assert [row.name, "paper", f"{row.size:,}"] in [w[:3] for w in words]
    assert ["paper", "1.64", "%", "1.58", "%", "1,070,000", "bytes"] in [
        w[:7] for w in words
    ]
    report = json.loads((finished / "report.json").read_text())
    assert ["ours", f"{report['file_bytes']:,}", "bytes"] in [
        [w[0], *w[-3:-1]] for w in words if len(w) > 3
    ]
    assert report["published"]["rows"]["ip2"]["rate_coded"] == 0.0304


def test_figure_6_is_measured_on_files(finished: Path):
    assert (finished / "fig6_tradeoff.png").stat().st_size > 0
    lines = (finished / "metrics.jsonl").read_text().splitlines()
    rows = {row["phase"]: row for row in map(json.loads, lines)}
    both, pruned = (rows["tradeoff-prune-1"][k]["bytes"] for k in ("both", "pruned"))
    assert both < pruned
    size = (finished / "model.dcz").stat().st_size
    assert rows["tradeoff-study"]["study"]["bytes"] == size


@pytest.mark.usefixtures("no_figures")
def test_a_killed_run_ends_with_the_same_file(finished: Path, tmp_path: Path):
    directory = tmp_path / "run"
    shutil.copytree(finished, directory)
    for path in (*directory.glob("model.*"), *directory.glob("report.*")):
        path.unlink()
    for pattern in ("paper*", "tradeoff-*", "test.json"):
        for path in (directory / "phases").glob(pattern):
            path.unlink()
    run_killed(__name__, directory, ("paper.msgpack",))
    run(directory)
    assert_same_outcome(directory, finished)


def test_a_file_is_evaluated_from_the_command_line(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setitem(lenet_mnist.NETWORKS["lenet300"].datasets, "mnist", blots)
    lenet_mnist.main(["--evaluate", str(finished / "model.dcz")])
    report = json.loads((finished / "report.json").read_text())
    assert f"test error {report['test_error']:.2f} %" in capsys.readouterr().out


def test_networks_and_knobs_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen = []
    monkeypatch.setattr(protocol, "run", lambda *args: seen.append(args))
    for name in lenet_mnist.NETWORKS:
        monkeypatch.setitem(lenet_mnist.NETWORKS[name].datasets, "mnist", blots)
        lenet_mnist.main(["--network", name, "--seed", "3"])
    assert [args[0].seed for args in seen] == [3, 3]
    assert [args[2].network for args in seen] == ["LeNet-300-100", "LeNet-5"]
    assert [str(args[4]) for args in seen] == [
        "runs/lenet300-paper",
        "runs/lenet5-paper",
    ]


def test_data_that_a_network_cannot_learn(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        lenet_mnist.main(["--network", "lenet5", "--dataset", "digits"])
    assert "lenet5 can learn mnist only" in capsys.readouterr().err


def test_the_papers_rows_and_ours_are_aligned():
    total = account.Row("total", 20, 0.5, 3.0, 2.5, 5.0, None, 0.25, 0.125)
    rows = (total._replace(name="params/ip1/kernel", kept=0.4), total)
    theirs = published.Published(2, 1, 80, 40, (rows[0]._replace(name="ip1"), total))
    lines = list(comparison.lines(theirs, rows, (3.0, 1.5)))
    words = [" ".join(line.split()) for line in lines]
    assert words[2] == "ours 3.00 % 1.50 % 80 bytes 10 bytes 8.0x"
    assert words[6] == "ip1 paper 20 40.00 3.00 2.50 5.00 - 25.00 12.50"
    assert words[7] == "ours 20 40.00 3.00 2.50 5.00 - 25.00 12.50"
    assert words[8] == "total paper 20 50.00 3.00 2.50 5.00 - 25.00 12.50"
    assert len({len(line) for line in lines[5:10]}) == 1
