"""The reports of finished runs, those of the seeds of a preset together."""

import json
import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Preset(NamedTuple):
    """Runs that differ in nothing but their seeds.

    Attributes:
        name: The name of the directory of the first seed.
        network: The name of the network.
        dataset: The name of the data.
        dense_bytes: The size of the fp32 variables.
        sizes: The size of the file of each run, in bytes.
        errors: The test errors of the networks decoded from the files, in percent.
        dense_errors: Those of the same runs' dense networks.
    """

    name: str
    network: str
    dataset: str
    dense_bytes: int
    sizes: tuple[int, ...]
    errors: tuple[float, ...]
    dense_errors: tuple[float, ...]


def read(results: Path) -> list[Preset]:
    """Reads all `report.json` under a directory.

    Args:
        results: A directory that holds one for each run, at any depth. A directory
            whose name ends in "-seed" and a number is of a further seed of the run
            without that ending, and so is what is in it.

    Returns:
        The presets, by name.

    Raises:
        ValueError: There is no report, or those of the seeds of a preset are not of
            one network and data and of different seeds.
    """
    runs: dict[str, list[dict]] = {}
    for path in sorted(results.rglob("report.json")):
        name = path.parent.relative_to(results).as_posix()
        report = json.loads(path.read_text())
        runs.setdefault(re.sub(r"-seed\d+(?=/|$)", "", name), []).append(report)
    if not runs:
        raise ValueError(f"{results}: no report.json of any run is under it")
    for name, reports in runs.items():
        for field in ("network", "dataset", "dense_bytes"):
            found = {report[field] for report in reports}
            if len(found) > 1:
                raise ValueError(
                    f"{results / name}: its seeds have different {field}: {found}"
                )
        seeds = [report["seed"] for report in reports]
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"{results / name}: two runs of one seed, of {seeds}")
    return [
        Preset(
            name,
            reports[0]["network"],
            reports[0]["dataset"],
            reports[0]["dense_bytes"],
            tuple(report["file_bytes"] for report in reports),
            tuple(report["test_error"] for report in reports),
            tuple(report["dense_test_error"] for report in reports),
        )
        for name, reports in sorted(runs.items())
    ]


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and the standard deviation of the sample, which is 0 for one value."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return statistics.fmean(values), deviation


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Writes mean ± standard deviation, or just the value if there is only one."""
    mean, deviation = mean_and_deviation(values)
    text = f"{mean:,.{digits}f}"
    return f"{text} ± {deviation:,.{digits}f}" if len(values) > 1 else text
