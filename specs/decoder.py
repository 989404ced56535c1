"""Reads `.dcz` files, version 1: slow, obvious, and with the standard library alone.

It follows the text of container.md (C), codings.md (L), gaps.md (G), huffman.md (H) and
rans.md (E) and shows that the text is enough. `python specs/decoder.py FILE.dcz` prints
what a file holds.
"""

import itertools
import math
import struct
import sys
import zlib

DTYPES = {  # C20: code to name, bytes of a value, and format of `struct`
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
# What a broken lane index breaks: a varint, the count, the width, the padding, the end.
RANS, HUFFMAN = ("E2", "E3", "E4", "E5", "E6"), ("H7", "H13", "H14", "H11", "H17")
COMMON = [
    *("params", "batch_stats", "kernel", "bias", "scale", "mean", "var", "embedding"),
    *("query", "key", "value", "out", "attention", "mlp", "norm", "layers"),
]


class Broken(ValueError):
    """A file breaks a clause, which is the message."""


def need(condition, clause):
    if not condition:
        raise Broken(clause)


# ---- the header ---------------------------------------------------------------------


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
    tree = {"keys": COMMON + keys, "used": set(COMMON), "nodes": 0, "leaves": 0}
    pos, structure = node(header, pos, tree, 1)
    need(tree["used"] == set(tree["keys"]), "C12")
    names = paths(structure, None)
    need(len(set(names)) == len(names), "C18")
    pos, count = varint(header, pos)
    books = []
    for _ in range(count):
        pos, book = codebook(header, pos)
        books.append(book)
    entries, seen = [], 0
    for _ in names:
        pos, entry = layout(header, pos, books, seen)
        seen = max(seen, entry["codebook"] + 1)
        entries.append(entry)
    need(seen == len(books), "C25")
    after, bodies = stop + 4, []
    for entry in entries:
        size = entry["body"]
        if size < 256:
            bodies.append(header[pos : pos + size])
            pos += size
        else:
            bodies.append(data[after : after + size + 4])
            after += size + 4
    need(pos == stop, "C6")
    need(after == len(data), "C32")
    need(sum(e["size"] * e["width"] for e in entries) <= max_bytes, "C31")
    decoded = []
    for name, entry, body in zip(names, entries, bodies):  # noqa: B905
        if entry["body"] >= 256:
            need(body[-4:] == crc(body[:-4]), "C33")
            body = body[:-4]
        decoded.append((name, entry["dtype"], entry["shape"], leaf(body, entry, books)))
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
        need(string not in [name.encode() for name in COMMON], "C11")
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


def node(data, pos, tree, depth):
    tree["nodes"] += 1
    need(tree["nodes"] <= 2**17, "C17")
    pos, number = varint(data, pos)
    kind, count = number % 8, number // 8
    need(kind <= 4 and (kind > 1 or count == 0), "C13")
    if kind == 0:
        tree["leaves"] += 1
        return pos, tree["leaves"] - 1
    if kind == 1:
        return pos, None
    need(depth <= 64, "C16")
    items, last, before = [], (0, -1), None
    for i in range(count):
        key = i
        if kind == 2:
            pos, number = varint(data, pos)
            key = number // 2
            if number % 2 == 0:
                need(key < len(tree["keys"]), "C14")
                key = tree["keys"][key]
                tree["used"].add(key)
            need((1 - number % 2, key) > last, "C15")
            last = (1 - number % 2, key)
        again = data[pos : pos + 1] == b"\5"
        need(not again or before is not None, "C13")
        before = before if again else pos
        end, child = node(data, before, tree, depth + 1)
        pos = pos + 1 if again else end
        items.append((key, child))
    children = [child for _, child in items]
    return pos, {2: dict(items), 3: children, 4: tuple(children)}[kind]


def paths(tree, path):
    need(path is None or len(path.encode()) <= 1024, "C19")
    if tree is None or isinstance(tree, int):
        return [] if tree is None else [path or ""]
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    lead = "" if path is None else path + "/"
    return [name for k, child in items for name in paths(child, f"{lead}{k}")]


def codebook(data, pos):
    """The dtype, the entries as bytes, and how many are below zero."""
    pos, (kind,) = take(data, pos, 1)
    code, storage = kind % 16, kind // 16
    need(code in DTYPES and storage in DTYPES, "C20")
    dtype, width, _ = DTYPES[code]
    narrower = DTYPES[storage][1] < width
    need(9 <= code <= 12 and 9 <= storage <= 12, "C21")
    need(storage == code or narrower, "C21")
    pos, number = varint(data, pos)
    count = number // 2
    need(count <= 2**15, "C22")
    if number % 2:
        pos, values = grid(data, pos, count, storage)
    else:
        pos, raw = take(data, pos, count * DTYPES[storage][1])
        values = numbers(raw, storage)
    entries = [rounded(value, code) for value in values]
    values = numbers(b"".join(entries), code)
    need(all(math.isfinite(v) and v for v in values), "C23")
    need(all(a < b for a, b in itertools.pairwise(values)), "C23")
    return pos, (dtype, entries, sum(value < 0 for value in values))


def grid(data, pos, count, storage):
    pos, raw = take(data, pos, DTYPES[storage][1])
    pos, below = varint(data, pos)
    pos, above = varint(data, pos)
    need(count <= below + above and max(below, above) <= 65536, "C24")
    factors = [i for i in range(-below, above + 1) if i]
    if count < len(factors):
        pos, packed = take(data, pos, (len(factors) + 7) // 8)
        mask = [byte >> (7 - i) & 1 for byte in packed for i in range(8)]
        need(sum(mask) == count and not any(mask[len(factors) :]), "C24")
        factors = list(itertools.compress(factors, mask))
    (step,) = numbers(raw, storage)
    need(math.isfinite(step), "C23")
    return pos, [step * factor for factor in factors]


def numbers(raw, code):
    """Values as numbers; a bfloat16 is the upper half of a float32."""
    name, _, kind = DTYPES[code]
    if name == "bfloat16":
        raw = b"".join(b"\0\0" + raw[i : i + 2] for i in range(0, len(raw), 2))
        kind = "f"
    return [v for values in struct.iter_unpack("<" + kind, raw) for v in values]


def rounded(value, code):
    """A number as the bytes of a dtype; to a bfloat16 by way of a float32."""
    name, _, kind = DTYPES[code]
    if not math.isfinite(value):
        raise Broken("C23")
    try:
        if name != "bfloat16":
            return struct.pack("<" + kind, value)
        word = int.from_bytes(struct.pack("<f", value), "little")
    except OverflowError:
        raise Broken("C23") from None
    return (word + 0x7FFF + (word >> 16 & 1) >> 16 & 0xFFFF).to_bytes(2, "little")


def layout(data, pos, books, seen):
    pos, (kind,) = take(data, pos, 1)
    code, coding = kind % 16, kind // 16
    need(code in DTYPES, "C20")
    pos, (ndim,) = take(data, pos, 1)
    need(ndim <= 32, "C26")
    shape = []
    for _ in range(ndim):
        pos, dimension = varint(data, pos)
        shape.append(dimension)
    dtype, width, _ = DTYPES[code]
    need(math.prod(d or 1 for d in shape) * width < 2**63, "C27")
    need(coding <= 5, "C28")
    book = -1
    if coding >= 2:
        pos, book = varint(data, pos)
        need(book < len(books), "C29")
        need(books[book][0] == dtype, "C30")
        need(book <= seen, "C25")
    pos, size = varint(data, pos)
    entry = dict(dtype=dtype, width=width, shape=tuple(shape), size=math.prod(shape))
    return pos, entry | dict(coding=coding, codebook=book, body=size)


# ---- the bodies ---------------------------------------------------------------------


def leaf(body, entry, books):
    width, size, coding = entry["width"], entry["size"], entry["coding"]
    need(size or not body, "C34")
    if not size or coding == 0:
        need(len(body) == size * width, "C35")
        return booleans(body, entry)
    if coding == 1:
        pos, positions = relative_gaps(body, size)
        need(len(body) - pos == len(positions) * width, "C35")
        raw = booleans(body[pos:], entry)
        kept = [raw[i : i + width] for i in range(0, len(raw), width)]
        need(all(any(value) for value in kept), "C37")
        dense = [bytes(width)] * size
        for position, value in zip(positions, kept):  # noqa: B905
            dense[position] = value
        return b"".join(dense)
    _, entries, negatives = books[entry["codebook"]]
    read = {2: packed, 3: relative, 4: dense_labels, 5: density}[coding]
    end, labels = read(body, entry["shape"], len(entries), negatives)
    need(end == len(body), "L1")
    need(all(label <= len(entries) for label in labels), "L4")
    return b"".join(([bytes(width)] + entries)[label] for label in labels)


def booleans(raw, entry):
    need(entry["dtype"] != "bool" or set(raw) <= {0, 1}, "C36")
    return raw


def packed(body, shape, k, _):
    return fields(body, 0, math.prod(shape), k.bit_length())


def fields(data, pos, count, width):
    """Numbers of `width` bits and their padding."""
    need(8 * pos + count * width <= 8 * len(data), "L1")
    found, at = [], 8 * pos
    for _ in range(count):
        at, value = bits(data, at, width, "L1")
        found.append(value)
    return padded(data, at, "L2", "L1"), found


def relative(body, shape, k, _):
    size = math.prod(shape)
    pos, positions = relative_gaps(body, size)
    pos, indices = huffman(body, pos, len(positions))
    need(all(index < k for index in indices), "L4")
    labels = [0] * size
    for position, index in zip(positions, indices):  # noqa: B905
        labels[position] = index + 1
    return pos, labels


def relative_gaps(body, size):
    pos, (gap_bits, low_bits) = take(body, 0, 2, "L1")
    need(1 <= gap_bits <= 16 and low_bits <= 32, "L5")
    pos, count = varint(body, pos)
    need(count <= size, "L6")
    pos, symbols = huffman(body, pos, count)
    cap = 2**gap_bits - 1
    need(all(symbol <= cap for symbol in symbols), "G5")
    need(not symbols or symbols[-1] < cap, "G6")
    pos, low = fields(body, pos, sum(s < cap for s in symbols), low_bits)
    positions = ranks(symbols, low, cap, low_bits)
    need(not positions or positions[-1] < size, "L7")
    return pos, positions


def ranks(symbols, low, cap, low_bits):
    """Where gaps lead, of units of 2**low_bits zeros and low bits (G2, G3, G7)."""
    found, here, low = [], 0, iter(low)
    for symbol in symbols:
        here += symbol << low_bits
        if symbol < cap:
            here += next(low)
            found.append(here)
            here += 1
    return found


def dense_labels(body, shape, k, _):
    need(k <= 1023, "L17")
    pos, model = frequencies(body, 0, k + 1)
    end, state = rans_begin(body, pos)
    labels = rans_take(state, [model], [0] * math.prod(shape))
    rans_finish(state)
    return end, labels


def density(body, shape, k, negatives):
    need(k <= 1024, "L17")
    pos, axes = varint(body, 0)
    need(axes < 2 ** len(shape), "L8")
    groups, top = [0], 0
    for axis, size in enumerate(shape):
        classes = [0] * size
        if axes >> axis & 1:
            pos, classes = huffman(body, pos, size)
            top += max(classes)
            need(max(classes) > 0 and top < 63, "L9")
        groups = [group + own for group in groups for own in classes]
    members = [[] for _ in range(top + 1)]
    for position, group in enumerate(groups):
        members[group].append(position)
    counts = [0] * len(members)
    for group, own in enumerate(members):
        if own:
            pos, counts[group] = varint(body, pos)
            need(counts[group] <= len(own), "L6")
    labels = [0] * len(groups)
    if not any(counts):
        return pos, labels
    pos, splits = varint(body, pos)
    need(splits % 2 == 0 and splits < 2 ** len(members), "L10")
    tables = []
    for _ in range(splits.bit_count() + 1):
        pos, model = table(body, pos, k, negatives)
        tables.append(model)
    pos, state = rans_begin(body, pos)
    models = [
        gap_model(len(own), count) if count else None
        for own, count in zip(members, counts)  # noqa: B905
    ]
    of_gaps = [group for group, count in enumerate(counts) for _ in range(count)]
    symbols = rans_take(state, models, of_gaps)
    of_kept = [g for g, symbol in zip(of_gaps, symbols) if symbol < 32]  # noqa: B905
    chosen = [(splits & 2 ** (group + 1) - 1).bit_count() for group in of_kept]
    indices = iter(rans_take(state, tables, chosen))
    rans_finish(state)
    at, first = 8 * pos, 0
    for group, count in enumerate(counts):
        own, first = symbols[first : first + count], first + count
        if not own:
            continue
        need(own[-1] < 32, "G6")
        low, low_bits = [], gap_low_bits(len(members[group]), count)
        for _ in range(sum(symbol < 32 for symbol in own)):
            at, value = bits(body, at, low_bits, "L1")
            low.append(value)
        for rank in ranks(own, low, 32, low_bits):
            need(rank < len(members[group]), "L7")
            labels[members[group][rank]] = next(indices) + 1
    return padded(body, at, "L2", "L1"), labels


# ---- models -------------------------------------------------------------------------


def frequencies(body, pos, alphabet):
    pos, codes = fields(body, pos, alphabet, 6)
    need(any(codes), "L3")
    roots = [65536, 77936, 92682, 110218]
    weights = [roots[code % 4] << code // 4 if code else 0 for code in codes]
    return pos, shares(weights, [code > 0 for code in codes])


def table(body, pos, k, negatives):
    pos, (code,) = take(body, pos, 1, "L1")
    need(code <= 64 and k, "L3")
    if code == 0:
        return frequencies(body, pos, k)
    mean = (4 + (code - 1) % 4) << (code - 1) // 4
    factor, now, weights = (mean << 32) // (mean + 16), 2**31, []
    for _ in range(max(negatives, k - negatives)):
        weights.append(now)
        now = now * factor >> 32
    both = weights[:negatives][::-1] + weights[: k - negatives]
    return pos, shares(both, [True] * k)


def gap_low_bits(size, count):
    return max((size // (4 * count)).bit_length() - 1, 0)


def gap_model(size, count):
    stay = ((size - count) << 32) // size
    for _ in range(gap_low_bits(size, count)):
        stay = stay * stay >> 32
    left, weights = 2**32, []
    for _ in range(32):
        weights.append(left - (left * stay >> 32))
        left = left * stay >> 32
    return shares([*weights, left], [True] * 33)


def shares(weights, used):
    """4096 shared out: one to each that is used, the rest in proportion."""
    spare, total = 4096 - sum(used), max(sum(weights), 1)
    found = [
        weight * spare // total + use
        for weight, use in zip(weights, used)  # noqa: B905
    ]
    found[weights.index(max(weights))] += 4096 - sum(found)
    return found


# ---- streams ------------------------------------------------------------------------


def rans_begin(data, pos):
    pos, sizes = index(data, pos, (len(data) - pos) // 4, RANS)
    words = pos + 4 * len(sizes)
    end = words + 2 * sum(sizes)
    need(end <= len(data), "E6")
    states = list(struct.unpack_from(f"<{len(sizes)}I", data, pos))
    need(min(states) >= 2**16, "E7")
    ends = list(itertools.accumulate(sizes))
    starts = [stop - size for stop, size in zip(ends, sizes)]  # noqa: B905
    words = struct.unpack_from(f"<{ends[-1]}H", data, words)
    return end, {"words": words, "x": states, "at": starts, "ends": ends}


def rans_take(state, models, chosen):
    symbols, lanes = [], len(state["x"])
    slots = [
        [(s, f, i) for s, f in enumerate(model or []) for i in range(f)]
        for model in models
    ]
    for i, model in enumerate(chosen):  # E1
        lane = i % lanes
        x = state["x"][lane]
        symbol, frequency, rest = slots[model][x % 4096]
        x = frequency * (x // 4096) + rest
        if x < 2**16:
            need(state["at"][lane] < state["ends"][lane], "E8")
            x = x << 16 | state["words"][state["at"][lane]]
            state["at"][lane] += 1
        state["x"][lane] = x
        symbols.append(symbol)
    return symbols


def rans_finish(state):
    need(state["at"] == state["ends"] and set(state["x"]) == {2**16}, "E8")


def bits(data, at, width, clause="H17"):
    need(at + width <= 8 * len(data), clause)
    value = 0
    for i in range(at, at + width):
        value = value << 1 | data[i // 8] >> (7 - i % 8) & 1
    return at + width, value


def padded(data, at, clause="H11", cut="H17"):
    """The byte after bit `at`, whose padding must be zero."""
    end = (at + 7) // 8
    need(bits(data, at, 8 * end - at, cut)[1] == 0, clause)
    return end


def index(data, pos, most, clauses):
    """The sizes of the lanes of a stream."""
    number, count, wide, zero, cut = clauses
    pos, lanes = varint(data, pos, number)
    need(1 <= lanes <= max(1, most), count)
    pos, base = varint(data, pos, number)
    if lanes == 1:
        return pos, [base]
    pos, (width,) = take(data, pos, 1, cut)
    need(width <= 32, wide)
    need(8 * pos + lanes * width <= 8 * len(data), cut)
    sizes, at = [], 8 * pos
    for _ in range(lanes):
        at, more = bits(data, at, width, cut)
        sizes.append(base + more)
    return padded(data, at, zero, cut), sizes


def huffman(data, pos, count):
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
    pos, sizes = index(data, pos, count // 16, HUFFMAN)  # H12
    lanes = len(sizes)
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
