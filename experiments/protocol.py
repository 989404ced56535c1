"""A whole run of the study: every phase in its order, then the files and the report."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import flax.linen as nn

from experiments.data.datasets import Dataset
from experiments.reporting import report
from experiments.study import curve, rate_training, stages, tradeoff
from experiments.study.config import Config
from experiments.training.runs import Run


def run(
    config: Config,
    model: nn.Module,
    roles: stages.Roles,
    dataset: Dataset,
    directory: Path,
    deadline: float = math.inf,
) -> dict[str, Any]:
    """Runs the whole study, or what is left of it.

    Args:
        config: All settings.
        model: The network.
        roles: What the parameters of the network are for.
        dataset: What the network learns.
        directory: The directory of the run. If it holds a run of the same settings,
            that run goes on.
        deadline: When to stop, on the clock of `time.monotonic`, in seconds.

    Returns:
        What `report.json` holds, or the first of them if there are several.

    Raises:
        runs.OutOfTime: The next step may not end before the deadline.
    """
    print(json.dumps(dataclasses.asdict(config), indent=2))
    epochs = config.total_epochs()
    with Run(directory, config, epochs=epochs, deadline=deadline) as saved:
        train, watch = stages.splits(dataset, config)
        current = stages.Study(config, saved, model, train, watch, roles)
        trained = stages.train_dense(current)
        if config.pruning == "rate":
            pruned, files = rate_training.run(current, trained)
        else:
            pruned = stages.prune_and_retrain(current, trained)
            tuned = {
                method: stages.fine_tune(current, pruned, method)
                for method in config.methods()
            }
            files = {config.sharing: tuned[config.sharing]}
            curve.measure(current, pruned, tuned[config.sharing])
        if config.sharing == "paper":
            tradeoff.measure(current, trained, files["paper"])
        networks = report.Networks(trained, pruned, files)
        reports = []
        for phase in files:
            saved.check_time()
            reports.append(report.finish(current, dataset, networks, phase))
        return reports[0]
