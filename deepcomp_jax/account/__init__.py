"""Where every bit of a `.dcz` file goes, computed from the file alone.

Each bit is counted exactly once, either for a tensor and one of its parts or for the
file as a whole, so that all counts add up to 8 times the size of the file.
`specs/account.md` says what each number means.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from deepcomp_jax.account.reading import Codebooks, read
from deepcomp_jax.account.tensors import Parts as Parts
from deepcomp_jax.account.tensors import Tensor as Tensor
from deepcomp_jax.account.tensors import copied, divide
from deepcomp_jax.account.text import render
from deepcomp_jax.format import memory_limit, reader, records, sets
from deepcomp_jax.format.records import Header
from deepcomp_jax.format.source import of_bytes
from deepcomp_jax.streams.counting import entropy as entropy

DENSE_BITS = 32  # what a value takes in a dense fp32 file, whatever its dtype is here


class Account(NamedTuple):
    """What the bits of a file are spent on.

    Attributes:
        file_bytes: The size of the file.
        tensors: The bits of each tensor, in tree order.
        front: The bits that belong to no tensor, such as those of names and containers.
        unique: How many distinct non-zero values there are, added up over the codebooks
            and over those tensors that have no codebook and are not copies.
    """

    file_bytes: int
    tensors: tuple[Tensor, ...]
    front: Parts
    unique: int

    def __str__(self) -> str:
        return format(self)

    @property
    def total(self) -> Parts:
        """The bits of all tensors and of the front, which add up to 8 * file_bytes."""
        rows = [self.front, *(tensor.parts for tensor in self.tensors)]
        return Parts(*map(sum, zip(*rows, strict=True)))

    @property
    def parameters(self) -> int:
        """How many values all tensors have."""
        return sum(tensor.size for tensor in self.tensors)

    @property
    def nonzero(self) -> int:
        """How many of these values are not zero."""
        return sum(tensor.kept for tensor in self.tensors)

    @property
    def dense_bytes(self) -> int:
        """The size of the same network with 32 bits for each value."""
        return self.parameters * DENSE_BITS // 8

    @property
    def ratio(self) -> float:
        """How many times smaller the file is than the dense fp32 values."""
        return self.dense_bytes / self.file_bytes

    @property
    def bound(self) -> float:
        """The bits that a perfect coder would need with the models of the file.

        These are the ideal bits of gaps and indices, plus models, codebooks, scales and
        values.
        """
        total = self.total
        ideal = math.fsum(tensor.ideal for tensor in self.tensors)
        models = total.tables + total.classes + total.codebook + total.scales
        return ideal + models + total.values


class Row(NamedTuple):
    """A row of the tables 2 to 5 of arXiv 1510.00149, for a tensor of the file.

    The paper counts bits after pruning and sharing at a fixed number of bits (P+Q), and
    again after Huffman coding (P+Q+H). A number is None where it would divide by zero.

    Attributes:
        name: Path of the tensor, or "total".
        size: How many values the tensor has.
        kept: The fraction of them that is stored.
        weight_bits: Bits of a stored value before Huffman coding.
        weight_bits_coded: Mean bits of its code word after it.
        gap_bits: Bits of a gap before Huffman coding; None if gaps have no fixed width.
        gap_bits_coded: Mean bits of its code word after it.
        rate: Bits of the tensor, its codebook and its scales before Huffman coding,
            over 32 bits for each value; None if gaps have no fixed width.
        rate_coded: All bits that the tensor takes, over 32 bits for each value.
    """

    name: str
    size: int
    kept: float | None
    weight_bits: float | None
    weight_bits_coded: float | None
    gap_bits: float | None
    gap_bits_coded: float | None
    rate: float | None
    rate_coded: float | None


def account(
    data: bytes, *, max_bytes: int = memory_limit.MAX_BYTES, compare: bool = False
) -> Account:
    """Accounts for every bit of a file that is in memory, as `account_files` does.

    Args:
        data: The bytes of a `.dcz` file.
        max_bytes, compare: As for `account_files`.

    Raises:
        FormatError: The file is damaged or too large.
    """
    file = of_bytes(data)
    files = [sets.Opened(file, reader.read_header(file))]
    return account_files(files, max_bytes=max_bytes, compare=compare)


def account_files(
    files: Sequence[sets.Opened],
    *,
    max_bytes: int = memory_limit.MAX_BYTES,
    compare: bool = False,
) -> Account:
    """Accounts for every bit of the files of a network, a tensor at a time.

    Args:
        files: All files of a set, or a file that is none, open.
        max_bytes: As for `container.loads`.
        compare: Whether to encode each tensor of labels in all other codings too, to
            name the next best one. That takes many times as long as everything else.

    Raises:
        FormatError: A file is damaged, or they are too large.
    """
    leaves = list(sets.leaves(files))
    for number, (file, header) in enumerate(files):
        own = [entry for holder, entry in leaves if holder == number]
        reader.check(file, header, max_bytes, own)
    memory_limit.check([entry for _, entry in leaves], max_bytes)
    tensors: list[Tensor] = []
    counted = [Codebooks.of(header) for _, header in files]
    for number, entry in leaves:
        if entry.layout.copy_of is not None:
            tensors.append(copied(entry, tensors[entry.layout.copy_of]))
        else:
            tensors.append(read(files[number], entry, counted[number], compare=compare))
    unique = sum(books.unique() for books in counted) + sum(
        tensor.unique
        for tensor in tensors
        if tensor.layout.codebook is None and tensor.layout.copy_of is None
    )
    size = sum(file.size for file, _ in files)
    front = Parts(*map(sum, zip(*(_front(header) for _, header in files), strict=True)))
    return Account(size, tuple(tensors), front, unique)


def _front(header: Header) -> Parts:
    """What is left of a header without its tensors, codebooks and small bodies.

    What it says of tensors that other files of the set hold counts as such.
    """
    described = sum(entry.header_bytes for entry in header.held)
    sections = [section for entry in header.held for section in entry.bodies]
    small = sum(section.size for section in sections if not section.checksum_bytes)
    names = header.size - records.CHECKSUM_BYTES - described - small
    names -= sum(header.codebook_bytes)
    return Parts(header=8 * names, checksum=8 * records.CHECKSUM_BYTES)


def table(account: Account) -> tuple[Row, ...]:
    """The paper's table: a row for each tensor, and the total in the last one.

    The total includes the bits of names and containers. In the paper a filler zero
    counts as a stored weight; here it takes no index (clause G3) and does not count.
    """
    tensors = account.tensors
    rows = [_row(tensor.name, (tensor,), tensor.bits) for tensor in tensors]
    return *rows, _row("total", tensors, 8 * account.file_bytes)


def _row(name: str, tensors: tuple[Tensor, ...], bits: int) -> Row:
    """The row of some tensors, which take so many bits of the file."""
    size = sum(tensor.size for tensor in tensors)
    stored = sum(tensor.stored for tensor in tensors)
    gaps = sum(tensor.gaps for tensor in tensors)
    weight_bits = sum(tensor.stored * _fixed_bits(tensor) for tensor in tensors)
    fixed = all(tensor.gap_bits or not tensor.gaps for tensor in tensors)
    gap_bits = sum(tensor.gaps * tensor.gap_bits for tensor in tensors)
    fixed_bits = weight_bits + gap_bits
    fixed_bits += sum(t.parts.codebook + t.parts.scales for t in tensors)
    weight_bits_coded = sum(t.parts.indices + t.parts.values for t in tensors)
    return Row(
        name,
        size,
        divide(stored, size),
        divide(weight_bits, stored),
        divide(weight_bits_coded, stored),
        divide(gap_bits, gaps) if fixed else None,
        divide(sum(tensor.parts.positions for tensor in tensors), gaps),
        divide(fixed_bits, DENSE_BITS * size) if fixed else None,
        divide(bits, DENSE_BITS * size),
    )


def _fixed_bits(tensor: Tensor) -> int:
    """Bits of a stored value before Huffman coding, when all take as many."""
    if tensor.layout.codebook is None:
        return 8 * tensor.layout.dtype.itemsize
    return max(0, tensor.clusters - 1).bit_length()


def to_dict(account: Account) -> dict[str, Any]:
    """Makes plain dictionaries, lists, numbers and strings of an account, for JSON.

    Sizes are in bits unless a name says otherwise.
    """
    rows = zip(account.tensors, table(account), strict=False)
    return {
        "parameters": account.parameters,
        "dense_bytes": account.dense_bytes,
        "file_bytes": account.file_bytes,
        "ratio": account.ratio,
        "nonzero": account.nonzero,
        "unique": account.unique,
        "bits": account.total._asdict(),
        "front_bits": account.front._asdict(),
        "entropy_bound": account.bound,
        "per_tensor": [
            {
                "name": tensor.name,
                "shape": list(tensor.layout.shape),
                "dtype": tensor.layout.dtype.name,
                "coding": tensor.coding,
                "size": tensor.size,
                "nonzero": tensor.kept,
                "unique": tensor.unique,
                "stored": tensor.stored,
                "gaps": tensor.gaps,
                "fillers": tensor.fillers,
                "clusters": tensor.clusters,
                "bits": tensor.parts._asdict() | {"total": tensor.bits},
                "ideal": tensor.ideal,
                "body_bytes": tensor.body_bytes,
                "runner_up": tensor.runner_up
                and dict(zip(("coding", "bytes"), tensor.runner_up, strict=True)),
                "table": {k: v for k, v in row._asdict().items() if k != "name"},
            }
            for tensor, row in rows
        ],
    }


def format(account: Account) -> str:
    """Writes an account as text: a line for each tensor, then the sizes of it all."""
    return render(to_dict(account), table(account))
