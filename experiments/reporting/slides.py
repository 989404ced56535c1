"""The measures on the slides' results page, computed from counts of values.

None of them counts all that a file needs. The only honest ratio is `Account.ratio`, the
bytes of the dense values over the bytes of the file.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

from deepcomp_jax.account import Account, divide
from deepcomp_jax.account.text import align

_INDICES = "the index of each weight, positions"
_CODED = "positions, pruning, entropy; takes all unique values for one codebook"
# The name of each measure, how it is written, and what it does not count (A14).
_MEASURES = {
    "unique_per_nonzero": ("unique / non-zero", "{:.14f} %", _INDICES),
    "unique_per_parameters": ("unique / parameters", "{:.16f} %", _INDICES),
    "parameters_per_unique": (
        *("parameters / unique", "x{:.2f}", f"{_INDICES}: no ratio of sizes"),
    ),
    "equation_1": ("equation 1, b2 = 8", "x{:.5f}", _CODED),
    "equation_1_paper": ("equation 1, b2 = 32", "x{:.5f}", _CODED),
    "parameters_per_nonzero": ("parameters / non-zero", "x{:.4f}", "positions"),
    "product": (
        *("product of the levels", "x{:.8f}"),
        "positions, entropy, tables, headers (b2 = 8)",
    ),
}


class Sharing(NamedTuple):
    """The slides' measures of weight sharing.

    All of them count distinct values. They leave out the index by which each surviving
    weight names its value, and the positions of the survivors, although no decoder can
    do without these. A measure is None where it would divide by zero.

    Attributes:
        nonzero: How many values are not zero.
        unique: How many distinct values there are among them.
        parameters: How many values there are in all.
        unique_per_nonzero: unique / nonzero, in percent.
        unique_per_parameters: unique / parameters, in percent.
        parameters_per_unique: The slides' "compression rate".
    """

    nonzero: int
    unique: int
    parameters: int
    unique_per_nonzero: float | None
    unique_per_parameters: float | None
    parameters_per_unique: float | None


def sharing_measures(nonzero: int, unique: int, parameters: int) -> Sharing:
    """Computes the measures of the slides' results page from three counts.

    Args:
        nonzero: How many values are not zero.
        unique: How many distinct values there are among them.
        parameters: How many values there are in all.
    """
    return Sharing(
        nonzero,
        unique,
        parameters,
        divide(100 * unique, nonzero),
        divide(100 * unique, parameters),
        divide(parameters, unique),
    )


def equation_1(n: int, k: int, b1: float = 32, b2: float = 8) -> float:
    """Computes the compression by sharing, r = n b1 / (n log2(k) + k b2).

    Equation 1 of arXiv 1510.00149, where the entries of the codebook have the bits of
    the weights, b2 = b1; the slides take b2 = 8. It leaves out the positions of the
    weights, everything that pruning saved, and what an entropy coder saves.

    Args:
        n: How many weights there are.
        k: How many clusters there are.
        b1: The bits of a weight before sharing.
        b2: The bits of an entry of the codebook.

    Raises:
        ValueError: n or k is not positive.
    """
    if n < 1 or k < 1:
        raise ValueError(f"equation 1 needs weights and clusters, got n={n}, k={k}")
    return n * b1 / (n * math.log2(k) + k * b2)


def product(*levels: float) -> float:
    """Multiplies levels of compression as the slides do, such as sharing times pruning.

    The product leaves out what each of its factors leaves out. If these are
    `equation_1` and all values / non-zero values, it leaves out the positions, on which
    pruning spends most of what it saves.
    """
    return math.prod(levels)


def measures(account: Account) -> dict[str, float | int | None]:
    """Computes the slides' measures of a file, None where they would divide by zero."""
    n, k = account.nonzero, account.unique
    sharing = equation_1(n, k) if n and k else None
    pruning = divide(account.parameters, n)
    return sharing_measures(n, k, account.parameters)._asdict() | {
        "equation_1": sharing,
        "equation_1_paper": equation_1(n, k, b2=32) if n and k else None,
        "parameters_per_nonzero": pruning,
        "product": product(sharing, pruning) if sharing and pruning else None,
    }


def lines(measured: dict[str, float | int | None]) -> Iterator[str]:
    """Writes the measures as text, each beside what it does not count.

    Args:
        measured: What `measures` returns.
    """
    yield "The slides' measures of sharing, and what they do not count:"
    rows = []
    for key, (name, form, note) in _MEASURES.items():
        value = measured[key]
        text = "-" if value is None else form.format(value)
        rows.append((name, text, f"not counted: {note}"))
    yield from align(rows, left=(0, 1, 2))
