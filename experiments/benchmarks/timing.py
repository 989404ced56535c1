"""What benchmarks share: a clock, rounds in turn, and packages that may be missing."""

import argparse
import importlib
import statistics
import time
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class Took(NamedTuple):
    """Seconds that something took.

    Attributes:
        wall: Of the time that passed.
        cpu: Of all threads of the process, to which other programs on the machine add
            less.
    """

    wall: float
    cpu: float


def timed(work: Callable[[], T]) -> tuple[T, Took]:
    """Calls a function; returns its result, which is not freed meanwhile, and its time.

    What JAX computes counts only as far as the function waits for it.
    """
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, Took(time.perf_counter() - wall, time.process_time() - cpu)


def in_turns(
    works: Mapping[str, Callable[[], object]], rounds: int
) -> dict[str, list[Took]]:
    """Times of every round, by name; all take their turn in each round."""
    found: dict[str, list[Took]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            found[name].append(timed(work)[1])
    return found


def median(times: list[Took]) -> Took:
    """The median of both."""
    return Took(*map(statistics.median, zip(*times, strict=True)))


def parser(doc: str | None, *, rounds: int | None = None) -> argparse.ArgumentParser:
    """The arguments of a benchmark, described by the first line of its docstring.

    Args:
        doc: The docstring.
        rounds: How many rounds there are by default; None if it has none.
    """
    found = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    if rounds is not None:
        found.add_argument("--rounds", type=int, default=rounds)
    return found


def installed(package: str) -> ModuleType | None:
    """A package, or None where it is not installed."""
    try:
        return importlib.import_module(package)
    except ImportError:
        return None
