"""The containers of a pytree in the header of a file: its strings, then its tree.

    strings = varint count, then each: varint p, varint q, q bytes of UTF-8
    tree    = node
    node    = 00 leaf | 01 None | 02 varint n, n keys each with its node (a dictionary)
            | 03 varint n, n nodes (a list) | 04 varint n, n nodes (a tuple)
    key     = varint v: strings[v / 2] if v is even, the integer (v - 1) / 2 if odd

Format notes:

- A string takes its first p bytes from the string before it, so that keys such as
  `conv1_1` and `conv1_2` cost little.
- All limits here bound the memory that a small, malicious header can ask for.
"""

from collections.abc import Iterator
from typing import NamedTuple

from deepcomp_jax import bits
from deepcomp_jax._errors import FormatError
from deepcomp_jax._types import Structure

MAX_DEPTH = 64  # containers within each other, far below Python's recursion limit (C15)
MAX_NAME_BYTES = 1024  # of a string and of a path: bounds what prefixes expand to (C10)

_LEAF, _NONE, _DICT, _LIST, _TUPLE = range(5)


class Problem(NamedTuple):
    """A rule of the format that something breaks, whoever notices it."""

    clause: str
    message: str


# ---- both ---------------------------------------------------------------------------


def leaf_names(structure: Structure) -> tuple[list[str], Problem | None]:
    """The path of each leaf in tree order, and what is wrong with the paths, if any."""
    names: dict[str, None] = {}
    for path, node in _walk(structure, None):
        if len(path.encode()) > MAX_NAME_BYTES:
            text = f"the path {path[:40]!r}... has more than {MAX_NAME_BYTES} bytes"
            return list(names), Problem("C17", text)
        if isinstance(node, int):
            if path in names:
                return list(names), Problem("C16", f"two leaves are named {path!r}")
            names[path] = None
    return list(names), None


def _walk(node: Structure, path: str | None) -> Iterator[tuple[str, Structure]]:
    """Every node with its path, containers before their contents."""
    yield path or "", node
    children: Iterator[tuple[str | int, Structure]] = iter(())
    if isinstance(node, dict):
        children = iter(_sorted_items(node))
    elif isinstance(node, (list, tuple)):
        children = iter(enumerate(node))
    for key, child in children:
        yield from _walk(child, str(key) if path is None else f"{path}/{key}")


# ---- writing ------------------------------------------------------------------------


def put(structure: Structure) -> bytes:
    """Writes strings and tree.

    Raises:
        ValueError: A key is neither a string nor an integer from 0 to 2**62 - 1, leaves
            are not numbered in tree order, or the containers nest too deep.
        TypeError: A node is no dictionary, list, tuple, leaf number or None.
    """
    keys: set[str] = set()
    numbers: list[int] = []
    _collect(structure, 1, keys, numbers)
    if numbers != list(range(len(numbers))):
        raise ValueError(
            "leaves must be numbered 0, 1, 2... in tree order (dictionary keys sorted, "
            f"integers first), got {numbers[:20]}"
        )
    strings = sorted(keys, key=_utf8)
    out = [bits.put_varint(len(strings))]
    before = b""
    for string in map(_utf8, strings):
        shared = _common_prefix(before, string)
        rest = string[shared:]
        out += [bits.put_varint(shared), bits.put_varint(len(rest)), rest]
        before = string
    _put_node(structure, {string: i for i, string in enumerate(strings)}, out)
    return b"".join(out)


def _utf8(key: str) -> bytes:
    try:
        return key.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"key {key!r} holds a lone surrogate, which UTF-8 cannot: rename it"
        ) from None


def _collect(node: Structure, depth: int, keys: set[str], numbers: list[int]) -> None:
    """Checks the nodes, and gathers the string keys and the numbers of the leaves."""
    if node is None:
        return
    if isinstance(node, int) and type(node) is not bool:
        numbers.append(node)
        return
    if depth > MAX_DEPTH:
        raise ValueError(f"containers nest deeper than {MAX_DEPTH}: flatten the tree")
    if isinstance(node, dict):
        for key, child in _sorted_items(node):
            if isinstance(key, str):
                keys.add(key)
            _collect(child, depth + 1, keys, numbers)
    elif isinstance(node, (list, tuple)):
        for child in node:
            _collect(child, depth + 1, keys, numbers)
    else:
        raise TypeError(
            f"a structure is made of dict, list, tuple, int and None, got {node!r}"
        )


def _sorted_items(
    node: dict[str | int, Structure],
) -> list[tuple[str | int, Structure]]:
    for key in node:
        is_number = type(key) is int and 0 <= key < 1 << 62
        if not isinstance(key, str) and not is_number:
            raise ValueError(
                f"key {key!r} is neither a string nor an integer from 0 to 2**62 - 1: "
                "rename it"
            )
    # Code points sort as their UTF-8 bytes do.
    return sorted(node.items(), key=lambda item: (isinstance(item[0], str), item[0]))


def _put_node(node: Structure, index: dict[str, int], out: list[bytes]) -> None:
    if node is None:
        out.append(bytes([_NONE]))
    elif isinstance(node, int):
        out.append(bytes([_LEAF]))
    elif isinstance(node, dict):
        out += [bytes([_DICT]), bits.put_varint(len(node))]
        for key, child in _sorted_items(node):
            number = 2 * index[key] if isinstance(key, str) else 2 * key + 1
            out.append(bits.put_varint(number))
            _put_node(child, index, out)
    else:
        kind = _LIST if isinstance(node, list) else _TUPLE
        out += [bytes([kind]), bits.put_varint(len(node))]
        for child in node:
            _put_node(child, index, out)


def _common_prefix(left: bytes, right: bytes) -> int:
    size = 0
    for a, b in zip(left, right, strict=False):
        if a != b:
            break
        size += 1
    return size


# ---- reading ------------------------------------------------------------------------


class _Tree(NamedTuple):
    """What is known while the nodes are read."""

    strings: list[str]
    used: set[int]  # strings that are some key
    leaves: list[int]  # where each leaf node lies


def get(data: bytes, pos: int) -> tuple[int, Structure, list[str]]:
    """Reads strings and tree.

    Args:
        data: The file up to the end of the header.
        pos: Where the strings begin, in bytes.

    Returns:
        The position after the tree, the structure, and the names of its leaves.

    Raises:
        FormatError: C3, C6 to C17.
    """
    start, strings = _get_strings(data, pos)
    tree = _Tree(strings, set(), [])
    end, structure = _get_node(data, start, tree, 1)
    for number, string in enumerate(strings):
        if number not in tree.used:
            raise FormatError(f"no key is {string!r}", offset=pos, clause="C11")
    names, problem = leaf_names(structure)
    if problem:
        raise FormatError(problem.message, offset=start, clause=problem.clause)
    return end, structure, names


def get_byte(data: bytes, pos: int) -> tuple[int, int]:
    """The position after a byte of the header, and the byte."""
    return pos + 1, get_bytes(data, pos, 1)[1][0]


def get_bytes(data: bytes, pos: int, size: int) -> tuple[int, bytes]:
    """The position after some bytes of the header, and the bytes."""
    if size > len(data) - pos:
        raise FormatError(
            "the fields do not end where the header does",
            offset=len(data),
            clause="C6",
        )
    return pos + size, data[pos : pos + size]


def _get_strings(data: bytes, pos: int) -> tuple[int, list[str]]:
    pos, count = bits.get_varint(data, pos, clause="C3")
    strings: list[str] = []
    before = b""
    for number in range(count):
        start = pos
        pos, shared = bits.get_varint(data, pos, clause="C3")
        pos, size = bits.get_varint(data, pos, clause="C3")
        if shared + size > MAX_NAME_BYTES:
            raise FormatError(
                f"a string of {shared + size} bytes, above {MAX_NAME_BYTES}",
                offset=start,
                clause="C10",
            )
        pos, rest = get_bytes(data, pos, size)
        string = before[:shared] + rest
        if number and string <= before:
            raise FormatError("strings do not ascend", offset=start, clause="C8")
        if _common_prefix(before, string) != shared:
            raise FormatError(
                f"{shared} is not the length of the common prefix",
                offset=start,
                clause="C9",
            )
        try:
            strings.append(string.decode())
        except UnicodeDecodeError:
            raise FormatError(
                "a string is not UTF-8", offset=start, clause="C7"
            ) from None
        before = string
    return pos, strings


def _get_node(data: bytes, pos: int, tree: _Tree, depth: int) -> tuple[int, Structure]:
    start = pos
    pos, kind = get_byte(data, pos)
    if kind == _LEAF:
        tree.leaves.append(start)
        return pos, len(tree.leaves) - 1
    if kind == _NONE:
        return pos, None
    if kind > _TUPLE:
        raise FormatError(f"a node of kind {kind}", offset=start, clause="C12")
    if depth > MAX_DEPTH:
        raise FormatError(
            f"containers nest deeper than {MAX_DEPTH}", offset=start, clause="C15"
        )
    pos, count = bits.get_varint(data, pos, clause="C3")
    if kind == _DICT:
        return _get_dict(data, pos, count, tree, depth)
    nodes: list[Structure] = []
    for _ in range(count):
        pos, node = _get_node(data, pos, tree, depth + 1)
        nodes.append(node)
    return pos, nodes if kind == _LIST else tuple(nodes)


def _get_dict(
    data: bytes, pos: int, count: int, tree: _Tree, depth: int
) -> tuple[int, Structure]:
    found: dict[str | int, Structure] = {}
    last = (-1, -1)
    for _ in range(count):
        start = pos
        pos, number = bits.get_varint(data, pos, clause="C3")
        is_string, value = 1 - number % 2, number // 2
        if is_string and value >= len(tree.strings):
            raise FormatError(f"there is no string {value}", offset=start, clause="C13")
        if (is_string, value) <= last:
            raise FormatError("keys do not ascend", offset=start, clause="C14")
        last = is_string, value
        key = tree.strings[value] if is_string else value
        if is_string:
            tree.used.add(value)
        pos, found[key] = _get_node(data, pos, tree, depth + 1)
    return pos, found
