"""The command line of every experiment: run a preset, or evaluate a file."""

import argparse
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import tyro

import deepcomp_jax as dc
from experiments import STARTED, protocol
from experiments.data.datasets import Dataset
from experiments.study.config import Config
from experiments.study.roles import Roles
from experiments.training.runs import OutOfTime
from experiments.training.train import evaluate

UNFINISHED = 75  # exit status: EX_TEMPFAIL of sysexits.h, "try again later"


class Network(NamedTuple):
    """A network that a command can train.

    Attributes:
        roles: What the parameters of the network are for.
        presets: Settings by name, of which the first are the default.
        datasets: Functions that read the data sets that it can learn, by the name in
            the settings, from a folder or, given None, by a download.
        tested_on: Name of the data set that files are evaluated on.
        build: Makes the network from the settings and the number of classes.
        rebuild: Makes the network that fits variables decoded from a file.
    """

    roles: Roles
    presets: Mapping[str, Config]
    datasets: Mapping[str, Callable[[Path | None], Dataset]]
    tested_on: str
    build: Callable[[Config, int], nn.Module]
    rebuild: Callable[[Mapping[str, Any]], nn.Module]


def main(networks: Mapping[str, Network], args: list[str] | None = None) -> None:
    """Reads the command line, and runs the study or evaluates a file.

    Args:
        networks: The networks by name, of which the first is the default. If there are
            several, `--network` chooses one.
        args: The arguments of the command; None takes those of the process.

    Raises:
        SystemExit: The time limit stopped the run; the status is `UNFINISHED`.
    """
    parser = _parser(networks)
    known, rest = parser.parse_known_args(args)
    network = networks[known.network]
    config = tyro.cli(
        Config,
        prog=parser.prog,
        description=_description(parser, known.preset),
        default=network.presets[known.preset],
        args=rest,
    )
    if known.evaluate is not None:
        evaluate_file(known.evaluate, network, known.data_dir)
        return
    if config.dataset not in network.datasets:
        parser.error(f"{known.network} can learn {', '.join(network.datasets)} only")
    dataset = network.datasets[config.dataset](known.data_dir)
    model = network.build(config, dataset.classes)
    directory = known.work_dir or Path("runs") / f"{known.network}-{known.preset}"
    deadline = STARTED + known.time_limit
    try:
        protocol.run(config, model, network.roles, dataset, directory, deadline)
    except OutOfTime as stop:
        print(stop)
        sys.exit(UNFINISHED)


def _parser(networks: Mapping[str, Network]) -> argparse.ArgumentParser:
    """The options that are no settings; tyro knows those, and prints the help."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first = next(iter(networks))
    parser.set_defaults(network=first)
    if len(networks) > 1:
        parser.add_argument(
            "--network", choices=networks, default=first, help=f"by default {first}"
        )
    presets = dict.fromkeys(n for net in networks.values() for n in net.presets)
    default = next(iter(presets))
    parser.add_argument(
        "--preset",
        choices=presets,
        default=default,
        help=f"where all other settings begin, by default {default}",
    )
    parser.add_argument(
        "--data-dir",
        type=Path,
        help="folder of the data as they are published; without it they are downloaded",
    )
    _add_options_of_runs(parser)
    return parser


def _add_options_of_runs(parser: argparse.ArgumentParser) -> None:
    """Where a run is and how long it may take, or the file that is measured instead."""
    parser.add_argument(
        "--work-dir",
        type=Path,
        help="folder of the run, by default runs/NETWORK-PRESET; a run that is there "
        "goes on",
    )
    parser.add_argument(
        "--time-limit",
        type=float,
        default=math.inf,
        metavar="SECONDS",
        help="stop before the process is that old, with everything saved and exit "
        f"status {UNFINISHED}; the same command goes on",
    )
    parser.add_argument(
        "--evaluate",
        type=Path,
        metavar="FILE.dcz",
        help="train nothing: measure the network in a file on the test set",
    )


def _description(parser: argparse.ArgumentParser, preset: str) -> str:
    """Describes the options of a command, above the settings that tyro lists."""
    _, _, options = parser.format_help().partition("\n\n")  # without the usage
    return f"{options}\nSettings of a run, with the values of the preset {preset}:"


def evaluate_file(path: Path, network: Network, data_dir: Path | None) -> None:
    """Decodes a file and measures the network in it on a test set.

    Args:
        path: A `.dcz` file of the network, of any width.
        network: The network that is in the file.
        data_dir: The folder of the data; None downloads them.
    """
    variables = dc.load(path)
    dataset = network.datasets[network.tested_on](data_dir)
    error, loss = evaluate(
        network.rebuild(variables), variables, dataset.test_images, dataset.test_labels
    )
    print(dc.report(path))
    print(f"test error {error:.2f} %, cross entropy {loss:.4f} nats")
