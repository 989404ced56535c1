"""The tensors of a file, read one after the other for its account."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax.account.tensors import Tensor, dense, distinct, shared
from deepcomp_jax.codings import Measured
from deepcomp_jax.format import leaf_body, leaf_reading, sets
from deepcomp_jax.format.records import Entry, Header
from deepcomp_jax.streams.counting import bincount


class Codebooks(NamedTuple):
    """The codebooks of a file while its tensors are counted.

    Attributes:
        entries: Of each.
        charges: What each takes of the header and is yet to be charged: to the first
            tensor that uses it.
        used: Which entries of each are used by a tensor so far.
    """

    entries: tuple[np.ndarray, ...]
    charges: dict[int, int]
    used: list[NDArray[np.bool_]]

    @classmethod
    def of(cls, header: Header) -> "Codebooks":
        """Those of a file of which nothing is counted yet."""
        used = [np.zeros(codebook.size, bool) for codebook in header.codebooks]
        return cls(header.codebooks, dict(enumerate(header.codebook_bytes)), used)

    def unique(self) -> int:
        """How many distinct values are used, added up over the codebooks."""
        pairs = zip(self.entries, self.used, strict=True)
        return sum(distinct(entries[used])[1] for entries, used in pairs)


def read(file: sets.Opened, entry: Entry, books: Codebooks, *, compare: bool) -> Tensor:
    """Counts the bits of a tensor that is stored, and the entries that it uses.

    Args:
        file: What it is in.
        entry: What the header says about it; no copy.
        books: The codebooks of the file.
        compare: Whether to look for the next best coding.

    Raises:
        FormatError: The body of a part is damaged, or that of exponents.
    """
    leaf_reading.read_exponents(*file, entry)
    measured, flat = _read(file, entry)
    number = entry.layout.codebook
    if number is None:
        return dense(entry, measured, flat)
    codebook = books.entries[number]
    used = bincount(flat, codebook.size + 1)[1:]
    books.used[number][used > 0] = True
    charge = books.charges.pop(number, 0)
    tensor = shared(entry, measured, used, codebook, charge)
    if not compare:
        return tensor
    runner_up = leaf_body.runner_up(entry.layout, flat, codebook)
    if runner_up is not None:
        name, size = runner_up
        runner_up = name, size + tensor.parts.scales // 8
    return tensor._replace(runner_up=runner_up)


def _read(file: sets.Opened, entry: Entry) -> tuple[Measured, np.ndarray]:
    """What the bits of all parts of a tensor are spent on; its labels or values."""
    layout, parts = entry.layout, entry.layout.parts
    number = layout.codebook
    codebook = None if number is None else file.header.codebooks[number]
    measured: list[Measured] = []
    whole = np.empty(0)
    for part in range(parts.number):
        with leaf_reading.located(entry, part):
            body = leaf_reading.read_body(file.source, entry, part)
            own, flat = leaf_body.measure(layout, part, body, codebook)
        measured.append(own)
        if parts.number == 1:
            return own, flat
        if not part:
            whole = np.empty(layout.size, flat.dtype)
        whole[parts.span(part)] = flat
    summed: Any = Measured(*map(sum, zip(*measured, strict=True)))
    widths = {own.gap_bits for own in measured}
    return summed._replace(gap_bits=widths.pop() if len(widths) == 1 else 0), whole
