"""Work on many things side by side, on all cores."""

import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_turn(
    work: Callable[[T], R],
    items: Sequence[T],
    size: Callable[[T], int],
    most: int | None = None,
) -> Generator[R, None, None]:
    """What is made of each item, in their order; close it if not all is wanted.

    Args:
        work: What to do.
        items: With what.
        size: About how long each takes. The longest begin first, so that no thread is
            left with one of them at the end.
        most: The most threads; by default as many as there are cores.
    """
    cores = os.cpu_count() or 1
    order = sorted(range(len(items)), key=lambda i: -size(items[i]))
    with ThreadPoolExecutor(min(cores, most or cores)) as pool:
        try:
            jobs = {i: pool.submit(work, items[i]) for i in order}
            for i in range(len(items)):
                yield jobs.pop(i).result()
        finally:
            pool.shutdown(cancel_futures=True)
