"""Reads `.dcz` files, version 1: slow, obvious, and with the standard library alone.

It follows the text of container.md (C), gaps.md (G) and huffman.md (H) and shows that
the text is enough. `python specs/decoder.py FILE.dcz` prints what a file holds.
"""

import math
import struct
import sys
import zlib

DTYPES = {  # C18: code to name, bytes of a value, and format of `struct`
    **{0: ("bool", 1, "?"), 1: ("int8", 1, "b"), 2: ("int16", 2, "h")},
    **{3: ("int32", 4, "i"), 4: ("int64", 8, "q"), 5: ("uint8", 1, "B")},
    **{6: ("uint16", 2, "H"), 7: ("uint32", 4, "I"), 8: ("uint64", 8, "Q")},
    **{9: ("float16", 2, "e"), 10: ("bfloat16", 2, "H"), 11: ("float32", 4, "f")},
    **{
        12: ("float64", 8, "d"),
        13: ("complex64", 8, "2f"),
        14: ("complex128", 16, "2d"),
    },
}


class Broken(ValueError):
    """A file breaks a clause, which is the message."""


def need(condition, clause):
    if not condition:
        raise Broken(clause)


def decode(data, max_bytes=2**32):
    """Returns the structure, and (name, dtype, shape, bytes) of each leaf."""
    need(data[:4] == b"\x89DCZ", "C1")
    need(data[4:5] == b"\x01", "C2")
    pos, size = varint(data, 5)
    stop = pos + size
    need(stop + 4 <= len(data), "C4")
    need(data[stop : stop + 4] == crc(data[:stop]), "C5")
    header = data[:stop]  # C6: `take` and `varint` run against its end
    pos, keys = strings(header, pos)
    used, leaves = set(), []
    pos, structure = node(header, pos, keys, used, leaves, 1)
    need(len(used) == len(keys), "C11")
    names = paths(structure, None)
    need(len(set(names)) == len(names), "C16")
    pos, count = varint(header, pos)
    books = []
    for _ in range(count):
        pos, book = codebook(header, pos)
        books.append(book)
    entries, seen = [], 0
    for name in names:
        pos, entry = layout(header, pos, books, seen)
        seen = max(seen, entry["codebook"] + 1)
        entries.append((name, entry))
    need(seen == len(books), "C22")
    need(pos == stop, "C6")
    need(stop + 4 + sum(e["section"] for _, e in entries) == len(data), "C30")
    need(sum(e["size"] * e["width"] for _, e in entries) <= max_bytes, "C29")
    start, decoded = stop + 4, []
    for name, entry in entries:
        raw = section(data[start : start + entry["section"]], entry, books)
        decoded.append((name, entry["dtype"], entry["shape"], raw))
        start += entry["section"]
    return structure, decoded


def crc(data):
    return struct.pack("<I", zlib.crc32(data))


def varint(data, pos, clause="C3"):
    value = 0
    for i in range(9):
        need(pos + i < len(data), clause)
        byte = data[pos + i]
        value |= (byte & 127) << 7 * i
        if byte < 128:
            need(byte > 0 or i == 0, clause)
            return pos + i + 1, value
    raise Broken(clause)


def take(data, pos, size, clause="C6"):
    need(pos + size <= len(data), clause)
    return pos + size, data[pos : pos + size]


def strings(data, pos):
    pos, count = varint(data, pos)
    found, before = [], b""
    for i in range(count):
        pos, shared = varint(data, pos)
        pos, size = varint(data, pos)
        need(shared + size <= 1024, "C10")
        pos, rest = take(data, pos, size)
        string = before[:shared] + rest
        need(i == 0 or string > before, "C8")
        common = 0
        while string[: common + 1] == before[: common + 1] and common < len(before):
            common += 1
        need(common == shared, "C9")
        try:
            found.append(string.decode())
        except UnicodeDecodeError:
            raise Broken("C7") from None
        before = string
    return pos, found


def node(data, pos, keys, used, leaves, depth):
    pos, (kind,) = take(data, pos, 1)
    need(kind <= 4, "C12")
    if kind == 0:
        leaves.append(None)
        return pos, len(leaves) - 1
    if kind == 1:
        return pos, None
    need(depth <= 64, "C15")
    pos, count = varint(data, pos)
    items, last = [], (0, -1)
    for i in range(count):
        key = i
        if kind == 2:
            pos, number = varint(data, pos)
            order = (1 - number % 2, number // 2)
            need(number % 2 == 1 or number // 2 < len(keys), "C13")
            need(order > last, "C14")
            last, key = order, number // 2
            if number % 2 == 0:
                used.add(key)
                key = keys[key]
        pos, child = node(data, pos, keys, used, leaves, depth + 1)
        items.append((key, child))
    children = [child for _, child in items]
    return pos, {2: dict(items), 3: children, 4: tuple(children)}[kind]


def paths(tree, path):
    need(path is None or len(path.encode()) <= 1024, "C17")
    if tree is None or isinstance(tree, int):
        return [] if tree is None else [path or ""]
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    lead = "" if path is None else path + "/"
    return [name for k, child in items for name in paths(child, f"{lead}{k}")]


def codebook(data, pos):
    pos, (code,) = take(data, pos, 1)
    need(code in DTYPES, "C18")
    need(9 <= code <= 12, "C19")
    pos, count = varint(data, pos)
    need(count <= 2**15, "C20")
    name, width, _ = DTYPES[code]
    pos, raw = take(data, pos, count * width)
    values = numbers(raw, code)
    need(all(math.isfinite(v) and v for v in values), "C21")
    need(all(a < b for a, b in zip(values, values[1:])), "C21")  # noqa: B905
    return pos, (name, [raw[i * width : (i + 1) * width] for i in range(count)])


def numbers(raw, code):
    """Values as numbers; a bfloat16 is the upper half of a float32."""
    name, _, kind = DTYPES[code]
    if name == "bfloat16":
        raw = b"".join(b"\0\0" + raw[i : i + 2] for i in range(0, len(raw), 2))
        kind = "f"
    return [v for values in struct.iter_unpack("<" + kind, raw) for v in values]


def layout(data, pos, books, seen):
    pos, (code,) = take(data, pos, 1)
    need(code in DTYPES, "C18")
    pos, (ndim,) = take(data, pos, 1)
    need(ndim <= 32, "C23")
    shape = []
    for _ in range(ndim):
        pos, dimension = varint(data, pos)
        shape.append(dimension)
    dtype, width, _ = DTYPES[code]
    need(math.prod(d or 1 for d in shape) * width < 2**63, "C24")
    pos, (coding,) = take(data, pos, 1)
    need(coding <= 2, "C25")
    book, gap_bits = -1, 0
    if coding == 1:
        pos, book = varint(data, pos)
        need(book < len(books), "C26")
        need(books[book][0] == dtype, "C27")
        need(book <= seen, "C22")
    if coding:
        pos, (gap_bits,) = take(data, pos, 1)
        need(1 <= gap_bits <= 16, "C28OLD")
    pos, size = varint(data, pos)
    need(size >= 4, "C31OLD")
    entry = dict(dtype=dtype, width=width, shape=tuple(shape), size=math.prod(shape))
    return pos, entry | dict(
        coding=coding, codebook=book, gap_bits=gap_bits, section=size
    )


def section(data, entry, books):
    body, width, size = data[:-4], entry["width"], entry["size"]
    need(data[-4:] == crc(body), "C32")
    need(size or not body, "C33")
    if not size or entry["coding"] == 0:
        need(len(body) == size * width, "C34")
        return booleans(body, entry)
    pos, count = varint(body, 0)
    need(count <= size, "L6")
    pos, symbols = stream(body, pos, count)
    positions = gaps(symbols, entry["gap_bits"])
    need(not positions or positions[-1] < size, "L7")
    if entry["coding"] == 1:
        values = books[entry["codebook"]][1]
        pos, indices = stream(body, pos, len(positions))
        need(all(i < len(values) for i in indices), "L4")
        kept = [values[i] for i in indices]
    else:
        end, raw = take(body, pos, len(positions) * width, "L1")
        booleans(raw, entry)
        kept = [raw[i : i + width] for i in range(0, len(raw), width)]
        need(all(any(value) for value in kept), "C36")
        pos = end
    need(pos == len(body), "L1")
    dense = [bytes(width)] * size
    for position, value in zip(positions, kept):  # noqa: B905
        dense[position] = value
    return b"".join(dense)


def booleans(raw, entry):
    need(entry["dtype"] != "bool" or set(raw) <= {0, 1}, "C35")
    return raw


def gaps(symbols, gap_bits):
    filler, positions, here = 2**gap_bits - 1, [], 0
    need(all(symbol <= filler for symbol in symbols), "G5")
    need(not symbols or symbols[-1] < filler, "G6")
    for symbol in symbols:  # G2, G3
        here += symbol
        if symbol < filler:
            positions.append(here)
            here += 1
    return positions


def bits(data, at, width):
    need(at + width <= 8 * len(data), "H17")
    value = 0
    for i in range(at, at + width):
        value = value << 1 | data[i // 8] >> (7 - i % 8) & 1
    return at + width, value


def padded(data, at):
    """The byte after bit `at`, whose padding must be zero."""
    end = (at + 7) // 8
    need(bits(data, at, 8 * end - at)[1] == 0, "H11")
    return end


def stream(data, pos, count):
    pos, size = varint(data, pos, "H7")
    need((size == 0) == (count == 0) and size <= 65536, "H8")
    at, lengths = 8 * pos, []
    while len(lengths) < size:  # H6
        at, length = bits(data, at, 4)
        lengths.append(length)
        if not length:
            at, run = bits(data, at, 4)
            lengths += [0] * run
            need(len(lengths) < size, "H9")
    pos = padded(data, at)
    used = sorted((length, symbol) for symbol, length in enumerate(lengths) if length)
    if not used or (len(used) == 1 and used[0][0] == 1):  # H4, H5
        return pos, [used[0][1]] * count if used else []
    need(sum(2 ** (15 - length) for length, _ in used) == 2**15, "H10")
    words, word, last = {}, 0, 0
    for length, symbol in used:  # H2
        word <<= length - last
        words[length, word] = symbol
        word, last = word + 1, length
    pos, lanes = varint(data, pos, "H7")
    need(lanes == 1 or 16 <= 16 * lanes <= count, "H13")
    pos, base = varint(data, pos, "H7")
    sizes = [base] * lanes
    if lanes > 1:  # H12
        pos, (width,) = take(data, pos, 1, "H17")
        need(width <= 32, "H14")
        at = 8 * pos
        for lane in range(lanes):
            at, more = bits(data, at, width)
            sizes[lane] += more
        pos = padded(data, at)
    need(8 * pos + sum(sizes) <= 8 * len(data), "H17")
    need(sum(sizes) >= count, "H16")  # a word has at least one bit
    stop = padded(data, 8 * pos + sum(sizes))
    at, symbols = 8 * pos, [0] * count
    for lane, lane_bits in enumerate(sizes):  # H15
        end = at + lane_bits
        for i in range(lane, count, lanes):
            length = word = 0
            while (length, word) not in words:
                need(at < end, "H16")
                at, bit = bits(data, at, 1)
                length, word = length + 1, word << 1 | bit
            symbols[i] = words[length, word]
        need(at == end, "H16")
    return stop, symbols


if __name__ == "__main__":
    with open(sys.argv[1], "rb") as opened:
        for name, dtype, shape, raw in decode(opened.read())[1]:
            print(name, dtype, list(shape), f"{len(raw)} bytes")
