"""Sizes rounded up, so that streams of about one size share a compiled program."""

from typing import Any

import jax
import numpy as np

BLOCK = 1 << 20  # symbols that a compiled loop on the CPU decodes at a time
# Lanes of a program. A leaf that is a power of 2 in size and has up to 4 bits a value
# has as many lanes as one of them, or a few less.
WIDTHS = 160, 544, 1056, 2112
WORTH_COMPILING = 1 << 17  # symbols; fewer take NumPy less than a loop to compile


def power(size: int, *, base: int, least: int) -> int:
    """The next of `least`, `least * base`, `least * base**2` and so on."""
    while least < size:
        least *= base
    return least


def extended(values: np.ndarray, size: int, place: Any) -> jax.Array:
    """Values on the device, and zeros up to `size`."""
    whole = np.zeros(size, values.dtype)
    whole[: values.size] = values
    return jax.device_put(whole, place)


def lanes(count: int) -> int:
    """Lanes, rounded to those of a compiled loop on the CPU."""
    fitting = (width for width in WIDTHS if width >= count)
    return next(fitting, None) or power(count, base=2, least=4096)


def words(count: int) -> int:
    """Words of a stream, rounded to those of a compiled loop on the CPU."""
    return power(count, base=4, least=1 << 17)


def blocks(count: int, lanes: int) -> list[tuple[int, int, int]]:
    """How a compiled loop on the CPU divides symbols: into blocks of whole steps.

    Args:
        count: Of the symbols.
        lanes: Each step decodes one symbol of each.

    Returns:
        Of each block the first symbol, the steps that all lanes take, and the number
        of lanes that take one more, which is 0 but in the last block.
    """
    most = max(BLOCK // lanes, 1)
    steps, left = divmod(count, lanes)
    firsts = range(0, max(steps, 1), most)
    return [
        (first * lanes, min(most, steps - first), left if first == firsts[-1] else 0)
        for first in firsts
    ]
