"""The whole study on a tiny setting: outputs, killing and resuming, evaluation."""

import dataclasses
import json
import shlex
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import flax.serialization
import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
import pytest

import deepcomp_jax as dc
from deepcomp_jax import Rule, share
from experiments import command, protocol, vgg19_cifar10
from experiments.data.datasets import Dataset
from experiments.models import vgg
from experiments.reporting import report
from experiments.reporting.report import clusters
from experiments.study import sharing, stages
from experiments.study.config import Config
from experiments.training import runs, states, train
from tests.support.killing import assert_same_outcome, run_killed, timeless_rows
from tests.support.small import ROLES, Small, drawn

TINY = Config(
    preset="tiny",
    dataset="digits",
    width=1 / 32,
    validation=16,
    batch=16,
    dense_epochs=2,
    iterations=2,
    epochs=(1,),
    sparsity=0.8,
    kernel_bits=3,
    tune_epochs=1,
    steps=(0.1,),
)


def _dataset() -> Dataset:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 80).astype(np.int32)
    images = rng.integers(0, 256, (80, 32, 32, 3)).astype(np.uint8)
    return Dataset("noise", images[:48], labels[:48], images[48:], labels[48:], 10)


def _run(config: Config, directory: Path) -> dict[str, Any]:
    return protocol.run(config, Small(), ROLES, _dataset(), directory)


def run(directory: Path) -> None:
    """Runs the tiny study, or what is left of it."""
    _run(TINY, directory)


def test_report_json_has_what_is_promised(finished: Path):
    report = json.loads((finished / "report.json").read_text())

    assert set(report) >= {
        "network", "dataset", "preset", "seed", "parameters", "dense_bytes",
        "file_bytes", "ratio", "dense_test_error", "test_error", "nonzero", "unique",
        "per_tensor", "command", "versions", "device", "seconds",
    }  # fmt: skip
    assert report["file_bytes"] == (finished / "model.dcz").stat().st_size
    assert report["dense_bytes"] == 4 * report["parameters"]
    assert report["ratio"] == report["dense_bytes"] / report["file_bytes"]
    variables = dc.load(finished / "model.dcz")
    leaves = [leaf for part in variables.values() for layer in part.values()
              for leaf in layer.values()]  # fmt: skip
    assert report["parameters"] == sum(leaf.size for leaf in leaves)
    assert report["nonzero"] == sum(np.count_nonzero(leaf) for leaf in leaves)


def test_every_output_is_there(finished: Path):
    names = {path.name for path in finished.iterdir()}
    assert names >= {"config.json", "metrics.jsonl", "model.dcz", "report.txt"}
    assert sum(name.endswith(".png") for name in names) >= 5
    assert json.loads((finished / "config.json").read_text())["preset"] == "tiny"
    rows = [
        json.loads(x) for x in (finished / "metrics.jsonl").read_text().splitlines()
    ]
    phases = list(dict.fromkeys(row["phase"] for row in rows))
    assert phases == [
        "dense", "dense-end", "prune-01", "prune-01-end", "prune-02", "prune-02-end",
        "kmeans-start", "kmeans", "kmeans-end",
        "nonparametric-start", "nonparametric", "nonparametric-end",
        "curve-0.1", "curve-study", "test",
    ]  # fmt: skip
    report = json.loads((finished / "report.json").read_text())
    assert rows[-2]["phase"] == "curve-study"
    end = next(row for row in rows if row["phase"] == "kmeans-end")
    assert {key: end[key] for key in ("nonzero", "unique")} == {
        key: report[key] for key in ("nonzero", "unique")
    }
    text = (finished / "report.txt").read_text()
    assert text.count("Initial clusters") == 7
    # The width of the settings, whatever network is made of it.
    assert report["network"] == "small of width 0.03125"
    assert text.startswith("small of width 0.03125 on noise, preset tiny\n")


def test_the_dense_error_is_of_the_network_before_any_pruning(finished: Path):
    fields: Any = flax.serialization.msgpack_restore(
        states.read(finished / "phases" / "dense.msgpack")
    )
    saved = dict(zip(fields["names"], fields["leaves"], strict=True))
    model, dataset = Small(), _dataset()
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    params, rest = train.split(shapes)
    like = train.TrainState(params, rest, ())
    paths, treedef = jax.tree_util.tree_flatten_with_path(like)
    leaves = [saved[jax.tree_util.keystr(path)] for path, _ in paths]
    dense = stages.trained_variables(treedef.unflatten(leaves))
    assert np.count_nonzero(dense["params"]["conv2"]["kernel"]) == 9 * 8 * 8
    test = dataset.test_images, dataset.test_labels
    rows = (finished / "metrics.jsonl").read_text().splitlines()
    found = json.loads(rows[-1])["dense_test_error"]
    assert found == train.evaluate(model, dense, *test)[0]


def test_what_the_report_evaluates_as_dense_is_the_trained_network(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Told apart by identity, for errors of few images may agree by chance."""
    seen: list[Any] = []
    evaluate = report.evaluate

    def watch(model: Any, variables: Any, *test: Any) -> tuple[float, float]:
        seen.append(variables)
        return evaluate(model, variables, *test)

    monkeypatch.setattr(report, "evaluate", watch)
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    (tmp_path / "phases" / "test.json").unlink()
    _run(TINY, tmp_path)
    kept = [np.count_nonzero(v["params"]["conv2"]["kernel"]) for v in seen]
    assert kept[0] == 9 * 8 * 8
    assert kept[1] < kept[0]


def test_entries_that_became_equal_are_fewer_clusters_than_at_first():
    values = jnp.array([[1.0, 2.0, 3.0, 4.0]])
    shared = share.share({"kernel": values}, [Rule("kernel", share=share.distinct)])
    ((group, codebook),) = shared.codebooks.items()
    merged = share.replace_codebooks(shared, {group: jnp.maximum(codebook, 2.0)})
    ((_, points, initial, final),) = report.clusters(merged)
    assert (points, initial, final) == (4, 4, 3)


def test_sparsity_and_codebooks_are_as_asked(finished: Path):
    params = dc.load(finished / "model.dcz")["params"]
    kernels = [layer["kernel"] for layer in params.values() if "kernel" in layer]
    zeros = sum(int((kernel == 0).sum()) for kernel in kernels)

    assert zeros >= round(0.8 * sum(kernel.size for kernel in kernels))
    assert all(len(np.unique(kernel)) <= 9 for kernel in kernels)


@pytest.mark.usefixtures("no_figures")
def test_a_killed_run_ends_with_the_same_file(finished: Path, tmp_path: Path):
    directory = tmp_path / "run"
    run_killed(__name__, directory, ("prune-01.msgpack", "kmeans.msgpack"))
    run(directory)
    assert_same_outcome(directory, finished)


@pytest.mark.parametrize("bar", [True, False])
def test_without_time_each_start_takes_a_step_and_loses_none(
    bar: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(runs, "tqdm", partial(runs.tqdm, disable=not bar))

    def train_epoch(state: Any, epoch: int) -> tuple[Any, dict[str, Any]]:
        return state + epoch, {}

    steps: list[str] = []
    for _ in range(4):
        with runs.Run(tmp_path, TINY, epochs=3, deadline=0.0) as run:
            try:
                state = run.phase("dense", jnp.zeros(()), 3, train_epoch)
                run.measure("end", lambda state=state: {"sum": float(state)})
                steps.append("end")
            except runs.OutOfTime as stop:
                steps.append(str(stop))
    assert steps == [
        "stopped after 1 of 3 epochs; the same command goes on",
        "stopped after 2 of 3 epochs; the same command goes on",
        "stopped after 3 of 3 epochs; the same command goes on",
        "end",
    ]
    rows = timeless_rows(tmp_path)
    assert [row.get("epoch") for row in rows] == [1, 2, 3, None]
    assert rows[-1]["sum"] == 3


@pytest.mark.usefixtures("no_figures")
def test_stopped_by_the_time_limit_again_and_again_it_ends_with_the_same_file(
    finished: Path, tmp_path: Path
):
    network = command.Network(
        ROLES,
        {"tiny": TINY},
        {"digits": lambda _: _dataset()},
        "digits",
        lambda config, classes: Small(),
        lambda variables: Small(),
    )
    flags = ["--time-limit", "0", "--work-dir", str(tmp_path)]
    stops: list[object] = []
    while not (tmp_path / "report.json").exists():
        try:
            command.main({"small": network}, flags)
        except SystemExit as stop:
            stops.append(stop.code)
    assert len(stops) >= TINY.total_epochs()
    assert set(stops) == {75}
    assert_same_outcome(tmp_path, finished)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("-m experiments.lenet_mnist --seed 1", "--seed 1"),
        ("-m experiments.lenet_mnist --data-dir /there/a --seed 1", "--seed 1 {}"),
        (
            "-m experiments.lenet_mnist --seed 1 --data_dir=/a --work-dir=/b",
            "--seed 1 {}",
        ),
        (
            "-m experiments.lenet_mnist --time-limit 60 --work_dir b --seed 1",
            "--seed 1",
        ),
    ],
)
def test_the_command_in_a_report_is_of_no_machine(given: str, expected: str):
    found = report.portable_command(given.split())
    expected = expected.format("--data-dir DIR")
    assert found == f"python -m experiments.lenet_mnist {expected}"


def test_no_committed_report_names_a_place_of_a_machine():
    results = Path(protocol.__file__).parent / "results"
    for path in results.rglob("report.json"):
        words = shlex.split(json.loads(path.read_text())["command"])
        assert not any(Path(word).is_absolute() for word in words), path


def test_states_are_saved_once_a_while(tmp_path: Path):
    saved = []
    with runs.Run(tmp_path, TINY, epochs=3) as run:

        def train_epoch(state: Any, epoch: int) -> tuple[Any, dict[str, Any]]:
            saved.append((tmp_path / "phases" / "dense.msgpack").exists())
            return state, {}

        run.phase("dense", jnp.zeros(()), 3, train_epoch)
    assert saved == [False, False, False]
    assert (tmp_path / "phases" / "dense.msgpack").exists()


def test_channels_that_nothing_reaches_survive_sharing():
    """Their variance is next to nothing, so that a rounded mean would be far off."""
    images, roles = _dataset().train_images, vgg19_cifar10.ROLES
    model = vgg.of_width(1 / 16)
    variables = drawn(model, noise=0.1, seed=5)
    idle = np.arange(24)
    conv, norm = variables["params"]["conv5_2"], variables["batch_stats"]["bn5_2"]
    conv["kernel"][..., idle] = 0
    norm["mean"][idle] = conv["bias"][idle]
    norm["var"][idle] = 1e-12

    def answers(weights: Any) -> np.ndarray:
        return np.asarray(train.logits(model, weights, images))

    config = dataclasses.replace(TINY, kernel_bits=8, other_bits=4)
    current: Any = stages.Study(config, None, model, None, None, roles)
    folded = stages.folded(current, variables)
    before = answers(variables)
    np.testing.assert_allclose(
        answers(folded), before, atol=1e-3 * np.abs(before).max()
    )
    assert not folded["params"]["bn5_2"]["scale"][idle].any()
    rules = sharing.rules(config, roles, "kmeans")
    shared = share.lookup(share.share(folded, rules))
    assert np.abs(answers(shared) - before).max() < 0.1 * np.abs(before).max()


def test_groups_hold_the_biases_of_convolutions_added_to_those_of_batchnorm():
    """Each convolution's bias and BatchNorm are one group, in which nothing is lost."""
    roles, epsilon = vgg19_cifar10.ROLES, 1e-5
    model = vgg.of_width(1 / 32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda x: jnp.asarray(rng.uniform(0.5, 1.5, x.shape), jnp.float32), shapes
    )
    # More entries than a group has values, so that each value is one.
    config = dataclasses.replace(TINY, other_bits=7)
    current: Any = stages.Study(config, None, model, None, None, roles)
    rules = sharing.rules(config, roles, "kmeans")
    shared = share.share(stages.folded(current, variables), rules)
    points = {group: count for group, count, *_ in clusters(shared)}
    values = share.lookup(shared)["params"]
    for name in (name for name in values if name.startswith("bn")):
        conv, norm = name.replace("bn", "conv"), variables["params"][name]
        mean, var = (
            np.asarray(variables["batch_stats"][name][role], np.float64)
            for role in ("mean", "var")
        )
        scale = np.asarray(norm["scale"], np.float64) / np.sqrt(var + epsilon)
        center = mean - np.asarray(variables["params"][conv]["bias"], np.float64)
        bias = np.asarray(norm["bias"], np.float64) - center * scale
        np.testing.assert_allclose(values[name]["scale"], scale, rtol=1e-5)
        np.testing.assert_allclose(values[name]["bias"], bias, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(values[conv]["bias"], 0)
        assert dict(shared.groups)[f"params/{conv}/bias"] == name
        assert points[name] == scale.size + np.count_nonzero(bias)


def test_another_configuration_is_not_mixed_in(finished: Path):
    other = dataclasses.replace(TINY, l2=0.0)
    with pytest.raises(ValueError, match="other settings, or is damaged: give another"):
        _run(other, finished)


def test_vgg19_from_the_command_line_and_its_file_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    datasets = vgg19_cifar10.NETWORK.datasets
    for name in ("digits", "cifar10"):
        monkeypatch.setitem(datasets, name, lambda _: _dataset())
    knobs = {"width": "0.03125", "validation": "16", "batch": "16"}
    knobs |= {"dense-epochs": "1", "iterations": "0", "tune-epochs": "0"}
    flags = [word for name, value in knobs.items() for word in (f"--{name}", value)]
    vgg19_cifar10.main([*flags, "--steps", "--work-dir", str(tmp_path)])
    vgg19_cifar10.main(["--evaluate", str(tmp_path / "model.dcz")])

    report = json.loads((tmp_path / "report.json").read_text())
    assert report["network"] == "VGG19_BN_drop_10 of width 0.03125"
    assert len(report["per_tensor"]) == 16 * 6 + 3 * 2
    assert f"test error {report['test_error']:.2f} %" in capsys.readouterr().out
    assert (tmp_path / "report.txt").read_text().count("Initial clusters") == 39


def test_the_dense_training_is_on_a_cosine_in_the_slides_protocol_too(
    monkeypatch: pytest.MonkeyPatch,
):
    rates = []

    def phase(study: Any, name: str, _: Any, state: Any, epochs: int, rate: float):
        assert name == "dense"
        rates.extend(
            study.config.learning_rates(rate, epoch=e, epochs=epochs, steps=1)[0]
            for e in range(epochs)
        )
        return state

    monkeypatch.setattr(stages, "train_phase", phase)
    config = dataclasses.replace(TINY, schedule="steps", dense_epochs=100)
    run: Any = SimpleNamespace(measure=lambda *_: None)
    parts = stages.splits(_dataset(), config)
    stages.train_dense(stages.Study(config, run, Small(), *parts, ROLES))
    cosine = config.dense_rate * (1 + np.cos(np.pi * np.arange(100) / 100)) / 2
    np.testing.assert_allclose(rates[11:], cosine[11:], rtol=1e-5)


def test_knobs_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen = []
    monkeypatch.setattr(command.protocol, "run", lambda *args: seen.append(args))
    vgg19_cifar10.main(
        ["--width", "0.5", "--epochs", "3", "4", "--work-dir", str(tmp_path)]
    )
    ((config, model, _, dataset, directory, _),) = seen
    assert model.hidden == (2048, 2048)
    assert (config.preset, config.width, config.epochs) == ("demo", 0.5, (3, 4))
    assert dataset.name == "digits"
    assert directory == tmp_path


def test_help_is_one_screen_of_options_and_settings(
    capsys: pytest.CaptureFixture[str],
):
    with pytest.raises(SystemExit) as stop:
        vgg19_cifar10.main(["--preset", "cpu", "--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert printed.count("usage:") == 1
    assert "--preset {demo,cpu,seed,best}" in printed
    assert "--evaluate FILE.dcz" in printed
    assert "(default: 0.25)" in printed[printed.index("of the preset cpu") :]


def test_iterations_share_their_programs(tmp_path: Path):
    """What depends on the iteration, such as the sparsity, is no part of a program."""
    compiled: list[int] = []

    class Counting(runs.Run):
        def measure(self, name: str, compute: Callable[[], runs.Row]) -> runs.Row:
            found = super().measure(name, compute)
            if name.startswith("prune-"):
                compiled.append(len(events))
            return found

    events: list[str] = []

    def listen(event: str, duration: float, **_: Any) -> None:
        del duration
        if event == "/jax/core/compile/backend_compile_duration":
            events.append(event)

    config = dataclasses.replace(TINY, iterations=4, dense_epochs=1)
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        with Counting(tmp_path, config, epochs=config.total_epochs()) as saved:
            parts = stages.splits(_dataset(), config)
            current = stages.Study(config, saved, Small(), *parts, ROLES)
            stages.prune_and_retrain(current, stages.train_dense(current))
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)

    assert compiled[0] > 0
    assert compiled[1:] == [compiled[1]] * 3
