"""The end of a run: its file, the errors of the network decoded from it, its report."""

import argparse
import json
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import deepcomp_jax as dc
from deepcomp_jax import account, trees
from deepcomp_jax.format import files
from deepcomp_jax.share import SharedWeights, lookup
from experiments.data.datasets import Dataset
from experiments.reporting import comparison, figures, slides
from experiments.study import sharing
from experiments.study.config import Config
from experiments.study.stages import Study
from experiments.training.runs import Row, versions
from experiments.training.train import evaluate, logits


class Networks(NamedTuple):
    """What the phases of a run left behind.

    Attributes:
        trained: The variables before any pruning.
        pruned: The variables after the last iteration of pruning.
        files: The network that goes into each file, by the phase that made it.
    """

    trained: Any
    pruned: Any
    files: Mapping[str, SharedWeights]


def finish(
    study: Study, dataset: Dataset, networks: Networks, phase: str
) -> dict[str, Any]:
    """Writes `model.dcz`, loads it back, and writes the report and the figures.

    They go to the directory of the run for the first file of a run, and for each
    further one to a directory in there that has the name of its phase.

    Args:
        study: The run.
        dataset: The data, whose test set is read here and, in a run that has a
            validation set, nowhere else.
        networks: What the phases of the run left behind.
        phase: The phase that made the network in the file.

    Returns:
        What `report.json` holds.
    """
    run, config = study.run, study.config
    shared, phases = networks.files[phase], list(networks.files)
    first = phase == phases[0]
    directory = run.directory if first else run.directory / phase
    directory.mkdir(exist_ok=True)
    path = directory / "model.dcz"
    decoded = write_model(path, study, shared, dataset.test_images)
    accounted = dc.report(path, compare=True)

    def errors() -> dict[str, float]:
        test = dataset.test_images, dataset.test_labels
        return {
            "dense_test_error": evaluate(study.model, networks.trained, *test)[0],
            "test_error": evaluate(study.model, decoded, *test)[0],
        }

    measured = run.measure("test" if first else f"{phase}-test", errors)
    rows = _history(run.rows(), phases, phase, config)
    report = _facts(study, dataset.name, rows, measured) | account.to_dict(accounted)
    report["measures"] = slides.measures(accounted)
    lines = list(_lines(report, shared, accounted))
    published = study.roles.published
    if published is not None:
        both = report["dense_test_error"], report["test_error"]
        lines += ["", *comparison.lines(published, account.table(accounted), both)]
        layers = {row.name: row._asdict() for row in published.rows}
        report["published"] = published._asdict() | {"rows": layers}
    text = "\n".join(lines) + "\n"
    files.write(directory / "report.txt", text.encode())
    files.write(
        directory / "report.json", (json.dumps(report, indent=2) + "\n").encode()
    )
    _draw(directory, study, rows, networks, decoded, accounted)
    run.say(text)
    return report


def _facts(
    study: Study, dataset: str, rows: Iterable[Row], measured: Row
) -> dict[str, Any]:
    """What a report says about the run itself."""
    network, width = study.roles.network, study.config.width
    return {
        "network": network if width == 1 else f"{network} of width {width:g}",
        "dataset": dataset,
        "preset": study.config.preset,
        "seed": study.config.seed,
        "dense_test_error": measured["dense_test_error"],
        "test_error": measured["test_error"],
        "command": portable_command(sys.orig_argv[1:]),
        "versions": versions(),
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "seconds": round(sum(row["seconds"] for row in rows), 1),
    }


def portable_command(arguments: Sequence[str]) -> str:
    """The command of a run as others would give it, without the places of a machine.

    Args:
        arguments: What Python was called with, such as `-m`, a module and its flags.
    """
    places = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in ("data", "work"):
        places.add_argument(f"--{name}-dir", f"--{name}_dir")
    places.add_argument("--time-limit", "--time_limit")
    given, others = places.parse_known_args(arguments)
    data = ["--data-dir", "DIR"] if given.data_dir is not None else []
    return shlex.join(["python", *others, *data])


def write_model(
    path: Path, study: Study, shared: SharedWeights, images: np.ndarray
) -> Any:
    """Writes the file, loads it back, and compares the answers of both networks.

    Args:
        path: Where the file goes.
        study: The run.
        shared: The network to write.
        images: The uint8 images whose logits are compared.

    Returns:
        The variables decoded from the file.

    Raises:
        RuntimeError: The logits of the decoded network are not bit-identical to those
            of the network that was saved.
    """
    dc.save(path, dc.pack(shared, sharing.coding_rules(study.config)))
    decoded = dc.load(path)
    before, after = (
        np.asarray(logits(study.model, variables, images))
        for variables in (jax.device_get(lookup(shared)), decoded)
    )
    if before.tobytes() != after.tobytes():
        raise RuntimeError(f"{path}: the decoded network answers otherwise than saved")
    return decoded


def _lines(
    report: dict[str, Any], shared: SharedWeights, accounted: account.Account
) -> Iterator[str]:
    """Writes the report in the style of the slides' results page."""
    yield f"{report['network']} on {report['dataset']}, preset {report['preset']}"
    yield ""
    yield "Weight sharing, a line for each group:"
    for group, points, initial, final in clusters(shared):
        yield (
            f"Points: {points:>8}  Initial clusters: {initial:>4}  "
            f"Final clusters: {final:>4}  {group}"
        )
    yield ""
    yield str(accounted)
    yield ""
    yield from slides.lines(report["measures"])
    yield ""
    yield f"Test error of the dense network:   {report['dense_test_error']:.2f} %"
    yield f"Test error of the network decoded: {report['test_error']:.2f} %"
    yield (
        f"Dense fp32 variables / file: {report['dense_bytes']} / "
        f"{report['file_bytes']} bytes = {report['ratio']:.2f}"
    )
    yield f"{report['seconds']:.0f} s of training and measuring on {report['device']}"


def clusters(shared: SharedWeights) -> list[tuple[str, int, int, int]]:
    """Counts the clusters of each group of leaves.

    Returns:
        The name of the group, its non-zero weights, the entries of its codebook and the
        distinct values that are used in the end.
    """
    labels: dict[str, list[np.ndarray]] = {}
    for name, group in shared.groups:
        labels.setdefault(group, []).append(np.asarray(shared.labels[name]).ravel())
    rows = []
    for group, parts in labels.items():
        codebook = np.asarray(shared.codebooks[group])
        kept = np.concatenate(parts)
        kept = kept[kept != 0]
        distinct = np.unique(codebook[np.unique(kept) - 1])
        rows.append((group, kept.size, codebook.size, distinct.size))
    return rows


def _history(
    rows: Iterable[Row], phases: list[str], phase: str, config: Config
) -> list[Row]:
    """Selects what was logged on the way to the network of one file.

    Args:
        rows: The rows of the run.
        phases: The phases that made the networks of all files, in order.
        phase: The phase that made this network. It is renamed to the method of sharing.
            Those before it are numbered if it began where they ended, and left out if
            it did not, as are those after it.
        config: The settings of the run.
    """
    method, last = config.sharing, phases.index(phase)
    before = [] if config.calibrated else phases[:last]
    names = {name: f"{method}-{i}" for i, name in enumerate(before, start=1)}
    names[phase] = method
    history: list[Row] = []
    for row in rows:
        name = re.sub("-(steps|start|end|test)$", "", row["phase"])
        if name in names or name not in phases:
            end = row["phase"].removeprefix(name)
            history.append(row | {"phase": names.get(name, name) + end})
    return history


def _draw(
    directory: Path,
    study: Study,
    rows: list[Row],
    networks: Networks,
    decoded: Any,
    accounted: account.Account,
) -> None:
    """Draws the figures of a file."""
    weights = {
        state: {k: np.asarray(v) for k, v in trees.named_leaves(variables).items()}
        for state, variables in zip(
            ("trained", "pruned", "clustered"),
            (networks.trained, networks.pruned, decoded),
            strict=True,
        )
    }
    figures.draw(
        directory,
        rows,
        weights,
        [
            figures.TensorRow(tensor.name, tensor.size, tensor.kept, tensor.bits)
            for tensor in accounted.tensors
        ],
        accounted.parameters,
        "test" if study.config.validation == 0 else "validation",
    )
