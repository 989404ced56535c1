"""Files of one network, and what those that were looked at say of the next."""

import math
from os import PathLike
from typing import NamedTuple, Protocol

import numpy as np

from deepcomp_jax import api
from deepcomp_jax._types import Compressed, Progress
from deepcomp_jax.format import files
from deepcomp_jax.rate import grids, planning


class Point(NamedTuple):
    """A point of the curve of size and quality.

    Attributes:
        rd_lambda: What a bit cost; 0 where nothing was changed.
        file_bytes: Size of the file.
        compressed: The network that is in the file.
        data: The file.
    """

    rd_lambda: float
    file_bytes: int
    compressed: Compressed
    data: bytes

    def __repr__(self) -> str:
        lam = f"rd_lambda={self.rd_lambda:g}"
        return f"Point({lam}, file_bytes={self.file_bytes}, {self.compressed!r})"

    def save(self, path: str | PathLike[str]) -> int:
        """Writes the file, as `api.save` does, without making it anew."""
        files.write(path, self.data)
        return self.file_bytes


class Search(Protocol):
    """A network at any step, which stands for a lambda."""

    @property
    def ends(self) -> tuple[float, float]:
        """Logarithms of the finest step and the coarsest."""
        ...

    @property
    def values(self) -> int:
        """How many values are quantized."""
        ...

    def compressed(self, log_step: float) -> Compressed:
        """The network at one step."""
        ...

    def bits(self, log_step: float) -> float:
        """About what the values that are quantized take at one step."""
        ...

    def stored(self) -> dict[str, float]:
        """About what each leaf takes that is not quantized, in bytes."""
        ...


def point_at(
    log_step: float, compressed: Compressed, progress: Progress | None = None
) -> Point:
    """A point of the curve, for which the file is made.

    Args:
        log_step: Of the network.
        compressed: The network at this step.
        progress: Is told of each leaf that is written.
    """
    data = api.dumps(compressed, progress=progress)
    rd_lambda = grids.lambda_for_step(math.exp(log_step), 1.0)
    return Point(rd_lambda, len(data), compressed, data)


class Looks:
    """Files of a network at several steps."""

    def __init__(self, search: Search, progress: Progress | None = None) -> None:
        """Begins without any.

        Args:
            search: The network.
            progress: Is told of each leaf that is written, for each file anew.
        """
        self.ends = search.ends
        self._search, self._progress = search, progress
        self.stored = search.stored()
        self._stored = 8 * sum(self.stored.values())
        self._ratios: dict[float, float] = {}  # of bytes to the estimate, by step

    def file(self, log_step: float) -> Point:
        """The file at one step."""
        compressed = self._search.compressed(log_step)
        found = point_at(log_step, compressed, self._progress)
        estimate = max(self._search.bits(log_step) + self._stored, 1.0)
        self._ratios[log_step] = 8 * found.file_bytes / estimate
        return found

    def find(self, file_bytes: float) -> float:
        """The step at which a file has about so many bytes.

        Estimates are a few percent too high or too low, but by nearly as much at a
        step as at those around it, whose files are known.
        """
        steps = sorted(self._ratios)
        ratios = [self._ratios[step] for step in steps]

        def bits(log_step: float) -> float:
            ratio = np.interp(log_step, steps, ratios) if steps else 1.0
            return float(ratio) * (self._search.bits(log_step) + self._stored)

        start = next(reversed(self._ratios), sum(self.ends) / 2)
        values = max(self._search.values, 1)
        return planning.descend(bits, 8 * file_bytes, self.ends, start, values)
