"""Adapters that run the examples of the specifications: text in, text out."""

from collections.abc import Callable, Iterable

import jax.numpy as jnp
import numpy as np

from deepcomp_jax import gaps, huffman, kmeans, prune, share
from deepcomp_jax._errors import FormatError


def run_kmeans(text: str) -> str:
    """First `optimal 2`, then `values 1 2 3`, perhaps `importance 1 1 2`."""
    (name, *knobs), *rows = [line.split() for line in text.strip().splitlines()]
    data = {row[0]: [float(number) for number in row[1:]] for row in rows}
    values, importance = data["values"], data.get("importance")
    try:
        if name == "optimal":
            found = kmeans.optimal(values, int(knobs[0]), importance=importance)
        elif name == "nonparametric":
            penalty = float(knobs[0])
            found = kmeans.nonparametric(values, penalty=penalty, importance=importance)
        elif knobs[1] == "density":
            found = kmeans.lloyd(
                values, int(knobs[0]), init="density", iterations=int(knobs[2])
            )
        else:
            found = kmeans.lloyd(values, int(knobs[0]), iterations=int(knobs[2]))
    except ValueError:
        return "error"
    return " ".join(str(float(centroid)) for centroid in found)


ADAPTERS: dict[str, Callable[[str], str]] = {"kmeans": run_kmeans}


def _fields(text: str) -> dict[str, list[float]]:
    """Lines of a name and numbers."""
    rows = [line.split() for line in text.strip().splitlines()]
    return {name: [float(number) for number in numbers] for name, *numbers in rows}


def _row(name: str, numbers: Iterable[float]) -> str:
    return " ".join([name, *(f"{float(number):g}" for number in numbers)])


def run_by_std(text: str) -> str:
    """`quality Q` and `weights ...` to `mask ...`."""
    fields = _fields(text)
    (mask,) = prune.by_std(fields["quality"][0])([jnp.array(fields["weights"])])
    return _row("mask", mask)


def run_by_magnitude(text: str) -> str:
    """`sparsity S` and `weights ...` to `mask ...`."""
    fields = _fields(text)
    method = prune.by_magnitude(fields["sparsity"][0])
    (mask,) = method([jnp.array(fields["weights"])])
    return _row("mask", mask)


def run_cubic_schedule(text: str) -> str:
    """`from A to B in N` to the sparsities of steps 0 to N + 1."""
    _, initial, _, final, _, steps = text.split()
    schedule = prune.cubic_schedule(float(initial), float(final), int(steps))
    return " ".join(f"{float(schedule(step)):g}" for step in range(int(steps) + 2))


def run_assign(text: str) -> str:
    """`codebook ...` and `weights ...` to `labels ...`."""
    fields = _fields(text)
    codebook = np.array(fields["codebook"], np.float32)
    return _row("labels", share.assign(jnp.array(fields["weights"]), codebook))


ADAPTERS |= {
    "assign": run_assign,
    "by_magnitude": run_by_magnitude,
    "by_std": run_by_std,
    "cubic_schedule": run_cubic_schedule,
}


# ---- gaps and huffman ----------------------------------------------------------------


def _numbers(text: str) -> dict[str, list[int]]:
    """Lines of a name and whole numbers; those of `hex` are hexadecimal."""
    rows = [line.split() for line in text.strip().splitlines()]
    return {
        name: [int(number, 16 if name == "hex" else 10) for number in numbers]
        for name, *numbers in rows
    }


def _line(name: str, values: Iterable[object]) -> str:
    return " ".join([name, *(str(value) for value in values)])


def run_canonical(text: str) -> str:
    """`lengths ...` to `codes ...` in binary, "-" where there is none."""
    lengths = np.array(_numbers(text)["lengths"], np.uint8)
    words = zip(huffman.code(lengths), lengths, strict=True)
    return _line("codes", (f"{word:0{size}b}" if size else "-" for word, size in words))


def run_lengths(text: str) -> str:
    """`counts ...` to `lengths ...`."""
    return _line("lengths", huffman.lengths(np.array(_numbers(text)["counts"])))


def run_encode(text: str) -> str:
    """`symbols ...` and perhaps `lanes L` to `hex ...`."""
    fields = _numbers(text)
    symbols = np.array(fields["symbols"], np.uint16)
    (lanes,) = fields.get("lanes", [None])
    return f"hex {huffman.encode(symbols, lanes=lanes).hex(' ')}"


def run_decode(text: str) -> str:
    """`count n` and `hex ...` to `symbols ...`, or `error` and the clause broken."""
    fields = _numbers(text)
    try:
        _, symbols = huffman.decode(bytes(fields["hex"]), 0, fields["count"][0])
    except FormatError as error:
        return f"error {error.clause}"
    return _line("symbols", symbols)


def run_gaps(text: str) -> str:
    """`bits b` and `positions ...` to `gaps ...`."""
    fields = _numbers(text)
    positions = np.array(fields["positions"], np.int64)
    return _line("gaps", gaps.encode(positions, bits=fields["bits"][0]))


def run_positions(text: str) -> str:
    """`bits b` and `gaps ...` to `positions ...`, or `error` and the clause broken."""
    fields = _numbers(text)
    symbols = np.array(fields["gaps"], np.uint16)
    try:
        return _line("positions", gaps.decode(symbols, bits=fields["bits"][0]))
    except FormatError as error:
        return f"error {error.clause}"


ADAPTERS |= {
    "canonical": run_canonical,
    "decode": run_decode,
    "encode": run_encode,
    "gaps": run_gaps,
    "lengths": run_lengths,
    "positions": run_positions,
}
