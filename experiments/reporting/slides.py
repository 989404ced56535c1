"""The slides' results page: measures of sharing from counts, and what each leaves out.

Some count less than a file needs. The only honest ratio is `Account.ratio`, bytes of
dense values over bytes of the file.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

from deepcomp_jax.account import Account, divide
from deepcomp_jax.account.text import align

# Name, key, how it is written, and what it does not count (A14).
_MEASURES = (
    (
        *("unique / non-zero", "unique_per_nonzero", "{:.14f} %"),
        "the index of each weight, positions",
    ),
    (
        *("unique / parameters", "unique_per_parameters", "{:.16f} %"),
        "the index of each weight, positions",
    ),
    (
        *("parameters / unique", "parameters_per_unique", "x{:.2f}"),
        "the index of each weight, positions: no ratio of sizes",
    ),
    (
        *("equation 1, b2 = 8", "equation_1", "x{:.5f}"),
        "positions, pruning, entropy; takes all unique values for one codebook",
    ),
    (
        *("equation 1, b2 = 32", "equation_1_paper", "x{:.5f}"),
        "positions, pruning, entropy; takes all unique values for one codebook",
    ),
    (
        *("parameters / non-zero", "parameters_per_nonzero", "x{:.4f}"),
        "positions",
    ),
    (
        *("product of the levels", "product", "x{:.8f}"),
        "positions, entropy, tables, headers (b2 = 8)",
    ),
)


class Sharing(NamedTuple):
    """The slides' measures of weight sharing.

    All of them count distinct values. They leave out the index that each surviving
    weight needs to name its value, and the positions of the survivors: no decoder can
    do without these. A measure is None where it would divide by zero.

    Attributes:
        nonzero: Values that are not zero.
        unique: Distinct values among them.
        parameters: Values in all.
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
    """The slides' results page, from three counts.

    Args:
        nonzero: Values that are not zero.
        unique: Distinct values among them.
        parameters: Values in all.
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
    """Compression by sharing: r = n b1 / (n log2(k) + k b2), both in bits.

    Equation 1 of arXiv 1510.00149, where the entries of the codebook have the bits of
    the weights, b2 = b1; the slides take b2 = 8. It leaves out the positions of the
    weights, everything that pruning saved, and what an entropy coder saves.

    Args:
        n: Number of weights.
        k: Number of clusters.
        b1: Bits of a weight before sharing.
        b2: Bits of an entry of the codebook.

    Raises:
        ValueError: n or k is not positive.
    """
    if n < 1 or k < 1:
        raise ValueError(f"equation 1 needs weights and clusters, got n={n}, k={k}")
    return n * b1 / (n * math.log2(k) + k * b2)


def product(*levels: float) -> float:
    """The slides' product of levels, such as sharing times pruning.

    It leaves out what each of its factors does; with `equation_1` and all / non-zero
    values as factors, the positions, on which pruning spends most of its saving.
    """
    return math.prod(levels)


def measures(account: Account) -> dict[str, float | int | None]:
    """The slides' measures of a file; None where they would divide by zero."""
    n, k = account.nonzero, account.unique
    slides = equation_1(n, k) if n and k else None
    pruning = divide(account.parameters, n)
    return sharing_measures(n, k, account.parameters)._asdict() | {
        "equation_1": slides,
        "equation_1_paper": equation_1(n, k, b2=32) if n and k else None,
        "parameters_per_nonzero": pruning,
        "product": product(slides, pruning) if slides and pruning else None,
    }


def lines(measured: dict[str, float | int | None]) -> Iterator[str]:
    """The measures as text, each beside what it does not count.

    Args:
        measured: What `measures` returns.
    """
    yield "The slides' measures of sharing, and what they do not count:"
    rows = []
    for name, key, form, note in _MEASURES:
        value = measured[key]
        text = "-" if value is None else form.format(value)
        rows.append((name, text, f"not counted: {note}"))
    yield from align(rows, left=(0, 1, 2))
