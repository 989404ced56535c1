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
        name: Of the directory of the first seed.
        network: Its name.
        dataset: Name of the data.
        dense_bytes: Of the fp32 variables.
        sizes: Of the file of each run, in bytes.
        errors: Test errors of the networks decoded from them, in percent.
    """

    name: str
    network: str
    dataset: str
    dense_bytes: int
    sizes: tuple[int, ...]
    errors: tuple[float, ...]


def read(results: Path) -> list[Preset]:
    """Reads all `report.json` under a directory.

    Args:
        results: Holds a directory for each run, at any depth. One whose name ends in
            "-seed" and a number is a further seed of the one without that ending.

    Returns:
        The presets, by name.

    Raises:
        ValueError: There is no report.
    """
    runs: dict[str, list[dict]] = {}
    for path in sorted(results.rglob("report.json")):
        name = path.parent.relative_to(results).as_posix()
        report = json.loads(path.read_text())
        runs.setdefault(re.sub(r"-seed\d+$", "", name), []).append(report)
    if not runs:
        raise ValueError(f"{results}: no report.json of any run is under it")
    return [
        Preset(
            name,
            reports[0]["network"],
            reports[0]["dataset"],
            reports[0]["dense_bytes"],
            tuple(report["file_bytes"] for report in reports),
            tuple(report["test_error"] for report in reports),
        )
        for name, reports in sorted(runs.items())
    ]


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and standard deviation of the sample: 0 of a single value."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return statistics.fmean(values), deviation


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Mean ± standard deviation; a single value has none."""
    mean, deviation = mean_and_deviation(values)
    text = f"{mean:,.{digits}f}"
    return f"{text} ± {deviation:,.{digits}f}" if len(values) > 1 else text
