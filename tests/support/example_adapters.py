"""Adapters that run the examples of the specifications: text in, text out."""

import ast
import itertools
from collections.abc import Callable, Iterable

import jax.numpy as jnp
import numpy as np

from deepcomp_jax import codings, fold, kmeans, prune, share
from deepcomp_jax._errors import FormatError
from deepcomp_jax.codings import axis_classes, relative, symbol_models
from deepcomp_jax.format import container, parts, plane_words, planes, tree_header
from deepcomp_jax.format.leaf_header import CODINGS
from deepcomp_jax.streams import bits, gaps, huffman, huffman_code, rans
from experiments.reporting import slides
from tests.support import vector_parts


def run_kmeans(text: str) -> str:
    """First `optimal 2`, then `values 1 2 3`, perhaps `importance 1 1 2`."""
    (name, *knobs), *rows = [line.split() for line in text.strip().splitlines()]
    data = {row[0]: [float(number) for number in row[1:]] for row in rows}
    values, importance = data["values"], data.get("importance")
    try:
        if name == "optimal":
            found = kmeans.optimal(values, int(knobs[0]), importance=importance)
        elif name == "nonparametric":
            cost = float(knobs[0])
            found = kmeans.nonparametric(
                values, cluster_cost=cost, importance=importance
            )
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


def run_fold(text: str) -> str:
    """`epsilon` and rows of a BatchNorm, perhaps `layer_bias ...`, to those rows."""
    fields = _fields(text)
    (epsilon,) = fields.pop("epsilon")
    tensors = {name: jnp.array(numbers) for name, numbers in fields.items()}
    layer = {"bias": tensors.pop("layer_bias")} if "layer_bias" in tensors else {}
    pairs = [("layer", "norm")] if layer else []
    try:
        folded = fold.batchnorm(
            {"layer": layer, "norm": tensors}, epsilon=epsilon, bias_of=pairs
        )
    except ValueError:
        return "error"
    rows = folded["norm"] | {f"layer_{name}": b for name, b in folded["layer"].items()}
    return "\n".join(_row(name, rows[name]) for name in fields)


ADAPTERS |= {
    "assign": run_assign,
    "by_magnitude": run_by_magnitude,
    "by_std": run_by_std,
    "cubic_schedule": run_cubic_schedule,
    "fold": run_fold,
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
    words = zip(huffman_code.code(lengths), lengths, strict=True)
    return _line("codes", (f"{word:0{size}b}" if size else "-" for word, size in words))


def run_lengths(text: str) -> str:
    """`counts ...` to `lengths ...`."""
    return _line("lengths", huffman_code.lengths(np.array(_numbers(text)["counts"])))


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
    """`bits b`, perhaps `low_bits m`, and `positions ...` to `gaps ...` (and `low`)."""
    fields = _numbers(text)
    positions = np.array(fields["positions"], np.int64)
    (bits,), (low_bits,) = fields["bits"], fields.get("low_bits", [0])
    symbols, low = gaps.encode(positions, bits=bits, low_bits=low_bits)
    lines = [_line("gaps", symbols), *([_line("low", low)] if low_bits else [])]
    return "\n".join(lines)


def run_positions(text: str) -> str:
    """`bits b` and `gaps ...` to `positions ...`, or `error` and the clause broken."""
    fields = _numbers(text)
    symbols = np.array(fields["gaps"], np.uint16)
    head = bytes([fields["bits"][0], 0]) + bits.put_varint(symbols.size)
    body = head + huffman.encode(symbols)  # of the relative coding
    try:
        blocks = relative.positions(body, relative.get_gaps(body, 1 << 32))
        return _line("positions", itertools.chain(*blocks))
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


def _hex(text: str) -> bytes:
    """The bytes of all lines `hex ...`."""
    lines = [line.removeprefix("hex ") for line in text.strip().splitlines()]
    return bytes.fromhex(" ".join(lines))


def run_varint(text: str) -> str:
    """`number n` to `hex ...`, and back, or `error` and the clause broken."""
    if text.startswith("number"):
        return f"hex {bits.put_varint(int(text.split()[1])).hex(' ')}"
    try:
        return f"number {bits.get_varint(_hex(text), 0, clause='C3')[1]}"
    except FormatError as error:
        return f"error {error.clause}"


def run_tree(text: str) -> str:
    """A structure as a Python literal to the `hex ...` of its strings and tree."""
    return f"hex {tree_header.put(ast.literal_eval(text.strip())).hex(' ')}"


def run_header(text: str) -> str:
    """`hex ...` of a header to tree, leaves and codebooks, or `error` and a clause."""
    try:
        header = container.read_header(vector_parts.front(_hex(text)))
    except FormatError as error:
        return f"error {error.clause}"
    lines = [f"tree {header.structure!r}"]
    for entry in header.leaves:
        shape = "x".join(map(str, entry.layout.shape))
        coding = CODINGS[entry.layout.coding]
        lines.append(f"leaf {entry.layout.dtype} {shape} {coding} {entry.size}")
    lines += [_line("codebook", entries) for entries in header.codebooks]
    return "\n".join(lines)


def run_metadata(text: str) -> str:
    """`hex ...` of metadata to a line `key = value` of each pair."""
    front = b"\0\1"  # no strings, and a tree that is None
    header = container.read_header(vector_parts.front(front + _hex(text)))
    return "\n".join(f"{key} = {value}" for key, value in header.metadata.items())


def run_parts(text: str) -> str:
    """A shape in each line to how many parts of which shapes it has."""
    lines: list[str] = []
    for line in text.split():
        found = parts.divide(tuple(map(int, line.split("x"))))
        shapes = ["x".join(map(str, found.shape(i))) for i in range(found.number)]
        alike = [(len(list(same)), shape) for shape, same in itertools.groupby(shapes)]
        lines.append(", ".join(f"{number} of {shape}" for number, shape in alike))
    return "\n".join(lines)


def run_file(text: str) -> str:
    """`hex ...` of a file to name, dtype and values of each leaf."""
    data = _hex(text)
    network = container.loads(data)
    lines: list[str] = []
    entries = container.read_header(data).leaves
    for entry, leaf in zip(entries, network.leaves, strict=True):
        values = container.values(leaf, network.codebooks)
        lines.append(f"{entry.name} {values.dtype} {values.tolist()}")
    return "\n".join(lines)


def run_sharing(text: str) -> str:
    """`nonzero`, `unique` and `parameters` to the slides' rates, as many digits."""
    counts = {name: int(numbers[0]) for name, numbers in _fields(text).items()}
    found = slides.sharing_measures(**counts)
    return (
        f"unique / non-zero {found.unique_per_nonzero:.14f} %\n"
        f"unique / parameters {found.unique_per_parameters:.16f} %\n"
        f"parameters / unique {found.parameters_per_unique:.2f}"
    )


def run_equation_1(text: str) -> str:
    """`n`, `k`, `b1` and `b2` to the rate of equation 1, 5 digits."""
    given = {name: int(numbers[0]) for name, numbers in _fields(text).items()}
    return f"{slides.equation_1(**given):.5f}"


def run_product(text: str) -> str:
    """Levels to their product, 8 digits."""
    return f"{slides.product(*map(float, text.split())):.8f}"


ADAPTERS |= {
    "equation_1": run_equation_1,
    "file": run_file,
    "header": run_header,
    "metadata": run_metadata,
    "parts": run_parts,
    "product": run_product,
    "sharing": run_sharing,
    "tree": run_tree,
    "varint": run_varint,
}


# ---- rANS and codings ----------------------------------------------------------------


def run_rans(text: str) -> str:
    """`models ...` each, `chosen ...` and `hex ...` of a stream to `symbols ...`."""
    rows = [line.split() for line in text.strip().splitlines()]
    found = [[int(n) for n in row[1:]] for row in rows if row[0] == "models"]
    fields = {row[0]: row[1:] for row in rows}
    chosen = np.array([int(n) for n in fields["chosen"]], np.uint8)
    data = bytes.fromhex(" ".join(fields["hex"]))
    _, state = rans.begin(data, 0)
    state, symbols = rans.take(state, rans.models(np.array(found)), chosen)
    rans.finish(state)
    return _line("symbols", symbols)


def run_labels(text: str) -> str:
    """`coding` (and gap bits), `shape`, `codebook`, `labels` to `hex` of a body."""
    rows = (line.split() for line in text.strip().splitlines())
    fields = {name: values for name, *values in rows}
    name, *gap_bits = fields["coding"]
    entries = [float(entry) for entry in fields["codebook"]]
    negatives = sum(entry < 0 for entry in entries)
    leaf = codings.Leaf(tuple(map(int, fields["shape"])), len(entries), negatives)
    labels = np.array(fields["labels"], np.uint8)
    _, body = codings.encode(labels, leaf, name, *map(int, gap_bits))
    assert np.array_equal(codings.decode(name, body, leaf), labels)
    return f"hex {body.hex(' ')}"


def run_body(text: str) -> str:
    """`coding`, `shape`, `codebook` and `hex` of a body to `labels`."""
    rows = (line.split() for line in text.strip().splitlines())
    fields = {name: values for name, *values in rows}
    entries = [float(entry) for entry in fields["codebook"]]
    negatives = sum(entry < 0 for entry in entries)
    leaf = codings.Leaf(tuple(map(int, fields["shape"])), len(entries), negatives)
    body = bytes.fromhex(" ".join(fields["hex"]))
    return _line("labels", codings.decode(fields["coding"][0], body, leaf))


def run_intervals(text: str) -> str:
    """`most`, `context` and `classes ...` to `starts ...` and `frequencies ...`."""
    fields = _numbers(text)
    (most,), (context,) = fields["most"], fields["context"]
    reader = axis_classes.Learner(most, context)
    classes = np.array(fields["classes"], np.uint8)
    found = axis_classes.intervals(classes, most, context)
    assert [reader.find(start + size - 1) for start, size in found] == found
    assert reader.seen == fields["classes"]
    starts, frequencies = zip(*found, strict=True)
    return f"{_line('starts', starts)}\n{_line('frequencies', frequencies)}"


def run_gap_model(text: str) -> str:
    """`size N` and `gaps g` to `low_bits` and `frequencies`."""
    fields = _numbers(text)
    (size,), (count,) = fields["size"], fields["gaps"]
    low_bits = symbol_models.low_bits(size, count)
    frequencies = _line("frequencies", symbol_models.gap_frequencies(size, count))
    return f"low_bits {low_bits}\n{frequencies}"


def run_frequencies(text: str) -> str:
    """`codes ...` to `frequencies ...`."""
    codes = np.array(_numbers(text)["codes"], np.uint8)
    return _line("frequencies", symbol_models.frequencies(codes[None])[0])


def run_falling(text: str) -> str:
    """`code`, `negatives` and `entries` to `frequencies ...`."""
    fields = {name: values[0] for name, values in _numbers(text).items()}
    found = symbol_models.falling(
        fields["code"], fields["entries"], fields["negatives"]
    )
    return _line("frequencies", found)


def _dtype(name: str) -> np.dtype:
    """One of the dtypes of the format."""
    return next(dtype for dtype in container.DTYPES if dtype.name == name)


def _words(text: str, dtype: np.dtype) -> np.ndarray:
    """Values of a dtype from their bits, in hexadecimal."""
    bits_of = [int(word, 16) for word in text.split()]
    return np.array(bits_of, f"u{dtype.itemsize}").view(dtype)


def _shown(words: np.ndarray) -> list[str]:
    """Values as bits, in hexadecimal."""
    digits = 2 * words.itemsize
    return [f"{word:0{digits}x}" for word in words.view(f"u{words.itemsize}").tolist()]


def run_regrouped(text: str) -> str:
    """`dtype` and `words ...` to `regrouped ...`, of the planes of such values."""
    fields = dict(line.split(maxsplit=1) for line in text.strip().splitlines())
    dtype = _dtype(fields["dtype"])
    found = plane_words.split(_words(fields["words"], dtype))
    return _line("regrouped", (bytes(word).hex() for word in found.T.tolist()))


def run_planes(text: str) -> str:
    """`dtype`, `size` and `hex ...` of a body to `words ...`."""
    fields = dict(line.split(maxsplit=1) for line in text.strip().splitlines())
    body, dtype = bytes.fromhex(fields["hex"]), _dtype(fields["dtype"])
    return _line("words", _shown(planes.get(body, int(fields["size"]), dtype)))


ADAPTERS |= {
    "body": run_body,
    "planes": run_planes,
    "regrouped": run_regrouped,
    "falling": run_falling,
    "frequencies": run_frequencies,
    "gap_model": run_gap_model,
    "intervals": run_intervals,
    "labels": run_labels,
    "rans": run_rans,
}
