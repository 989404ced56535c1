"""What a run logged, for its figures."""

from collections.abc import Sequence
from typing import NamedTuple

from experiments.training.runs import Row


class Log(NamedTuple):
    """What a run logged.

    Attributes:
        rows: All rows of `metrics.jsonl`, in order.
        parameters: How many values the leaves of the network have.
        watched_on: What `watch_error` was measured on: "validation" or "test".
    """

    rows: Sequence[Row]
    parameters: int
    watched_on: str

    def epochs(self, phase: str) -> list[Row]:
        """The rows of a phase's epochs."""
        return [r for r in self.rows if r["phase"] == phase and "epoch" in r]

    def result(self, phase: str) -> Row | None:
        """The row of a result, or None if there is none."""
        return next((r for r in self.rows if r["phase"] == phase), None)

    def iterations(self) -> list[Row]:
        """The results of those iterations of pruning that left any weight."""
        return [r for r in self.rows if "iteration" in r and r["nonzero"]]
