"""Reads `.dcz` files, version 1: slow, obvious, with the standard library alone.

It follows the text of container.md (C), codings.md (L), planes.md (V), gaps.md (G),
huffman.md (H) and rans.md (E), and shows that the text is enough.
`python specs/decoder.py FILE.dcz` prints what a file holds.
"""

import itertools
import math
import os.path
import struct
import sys
import zlib
from types import SimpleNamespace

DTYPES = [  # C20: name, bytes of a value, and format of `struct`
    *(("bool", 1, "?"), ("int8", 1, "b"), ("int16", 2, "h"), ("int32", 4, "i")),
    *(("int64", 8, "q"), ("uint8", 1, "B"), ("uint16", 2, "H"), ("uint32", 4, "I")),
    *(
        ("uint64", 8, "Q"),
        ("float16", 2, "e"),
        ("bfloat16", 2, ""),
        ("float32", 4, "f"),
    ),
    *(("float64", 8, "d"), ("complex64", 8, ""), ("complex128", 16, "")),
    *(("float8_e4m3fn", 1, ""), ("float8_e5m2", 1, "")),
    *(("float8_e4m3b11fnuz", 1, ""), ("float8_e4m3fnuz", 1, "")),
    ("float8_e5m2fnuz", 1, ""),
]
COMMON = [  # strings 0 to 15
    *("params", "batch_stats", "kernel", "bias", "scale", "mean", "var", "embedding"),
    *("query", "key", "value", "out", "attention", "mlp", "norm", "layers"),
]
SMALL = 1024  # bytes; a smaller body is in the header
MOST = 2**22  # values of a part (C58)


class Broken(ValueError):
    """A file breaks a clause, which is the message."""


def need(condition, clause):
    if not condition:
        raise Broken(clause)


# ---- the file -----------------------------------------------------------------------


def decode(data, max_bytes=2**32):
    """Returns structure, (name, dtype, shape, bytes) of each leaf, and metadata."""
    need(data[:4] == b"\x89DCZ", "C1")
    need(data[4:5] == b"\x01", "C2")
    pos, size = varint(data, 5)
    stop = pos + size
    need(stop + 4 <= len(data), "C4")
    need(data[stop : stop + 4] == crc(data[:stop]), "C5")
    header = data[:stop]  # C6: `take` and `varint` run against its end
    pos, own = strings(header, pos)
    tree = SimpleNamespace(keys=COMMON + own, used=set(COMMON), nodes=0, leaves=0)
    pos, structure = node(header, pos, tree, 1)
    need(len(tree.used) == len(tree.keys), "C12")
    leaves, books = [], []
    for name in paths(structure, None, {}):
        pos, leaf = layout(header, pos, name, books, leaves)
        leaves.append(leaf)
    parts = [part for leaf in leaves for part in leaf.parts]
    bodies = [body for leaf in leaves for body in [*leaf.exponents, *leaf.parts]]
    pos, end = place(header, pos, bodies)
    pos, said = metadata(header, pos) if pos < stop else (pos, {})
    need(pos == stop, "C6")
    need(end == len(data), "C32")
    need(all(leaf.coding != 8 for leaf in leaves), "C60")
    scratch = 8 * max((body.size for body in bodies), default=0)
    taken = sum(leaf.size * leaf.width + leaf.scales for leaf in leaves)
    need(taken + scratch <= max_bytes, "C31")
    need(sum(class_indices(part, data) for part in parts) <= 2**22, "C46")
    for leaf in leaves:
        known = [exponents(body_of(own, data), own.size) for own in leaf.exponents]
        if known:
            check_scales(known, leaf)
        raw = b"".join(values(body_of(part, data), part) for part in leaf.parts)
        raw = scaled(raw, known, leaf) if known else raw
        leaf.raw = leaf.original.raw if leaf.original else raw
    found = [(leaf.name, leaf.dtype, leaf.shape, leaf.raw) for leaf in leaves]
    return structure, found, said


def place(header, pos, bodies):
    """Where each body begins: in the header if it is small, else behind it."""
    end = len(header) + 4
    for body in bodies:
        if body.bytes < SMALL:
            body.start = pos
            pos, _ = take(header, pos, body.bytes)
        else:
            body.start, end = end, end + body.bytes + 4
    return pos, end


def body_of(part, data):
    end = part.start + part.bytes
    body = data[part.start : end]
    need(part.bytes < SMALL or data[end : end + 4] == crc(body), "C33")
    return body


def metadata(data, pos):
    pos, count = varint(data, pos)
    need(count > 0, "C59")
    found, last = {}, None
    for _ in range(count):
        pos, size = varint(data, pos)
        pos, key = take(data, pos, size)
        pos, size = varint(data, pos)
        pos, value = take(data, pos, size)
        need(last is None or key > last, "C59")
        last = key
        try:
            found[key.decode()] = value.decode()
        except UnicodeDecodeError:
            raise Broken("C59") from None
    return pos, found


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
        pos, both = varint(data, pos)
        shared, size = both % 16, both // 16
        need(shared + size <= 1024, "C10")
        pos, rest = take(data, pos, size)
        string = before[:shared] + rest
        need(i == 0 or string > before, "C8")
        need(string not in [common.encode() for common in COMMON], "C11")
        common = len(os.path.commonprefix([before, string]))
        need(shared == min(common, 15), "C9")
        try:
            found.append(string.decode())
        except UnicodeDecodeError:
            raise Broken("C7") from None
        before = string
    return pos, found


def node(data, pos, tree, depth):
    pos, number = varint(data, pos)
    kind, count = number % 8, number // 8
    tree.nodes += 1
    need(tree.nodes <= 2**17, "C17")
    need(kind <= 4 and (kind >= 2 or count == 0), "C13")
    if kind == 0:
        tree.leaves += 1
        return pos, tree.leaves - 1
    if kind == 1:
        return pos, None
    need(depth <= 64, "C16")
    items, last, before = [], (False, -1), None
    for i in range(count):
        key = i
        if kind == 2:
            pos, number = varint(data, pos)
            key, is_string = number // 2, number % 2 == 0
            if is_string:
                need(key < len(tree.keys), "C14")
                key = tree.keys[key]
                tree.used.add(key)
            need((is_string, key) > last, "C15")
            last = is_string, key
        if data[pos : pos + 1] == b"\5":  # the node before once more
            need(before is not None, "C13")
            pos, child = pos + 1, node(data, before, tree, depth + 1)[1]
        else:
            before = pos
            pos, child = node(data, pos, tree, depth + 1)
        items.append((key, child))
    children = [child for _, child in items]
    return pos, {2: dict(items), 3: children, 4: tuple(children)}[kind]


def paths(tree, path, names):
    need(path is None or len(path.encode()) <= 1024, "C19")
    if isinstance(tree, int):
        need((path or "") not in names, "C18")
        names[path or ""] = True
    elif tree is not None:
        lead = "" if path is None else path + "/"
        for key, child in tree.items() if isinstance(tree, dict) else enumerate(tree):
            paths(child, f"{lead}{key}", names)
    return names


# ---- leaves and codebooks -----------------------------------------------------------


def numbers(raw, code):
    """Floating values; a bfloat16 is the upper half of a float32."""
    name, width, kind = DTYPES[code]
    if name == "bfloat16":
        raw = b"".join(b"\0\0" + raw[i : i + 2] for i in range(0, len(raw), 2))
        kind = "f"
    return [value for (value,) in struct.iter_unpack("<" + kind, raw)]


def rounded(value, code):
    """The bytes of a finite number in a floating dtype."""
    name, _, kind = DTYPES[code]
    if name != "bfloat16":
        return struct.pack("<" + kind, value)
    (word,) = struct.unpack("<I", struct.pack("<f", value))
    return struct.pack("<H", (word + 0x7FFF + (word >> 16 & 1)) >> 16)


def layout(data, pos, name, books, before):
    pos, (kind,) = take(data, pos, 1)
    coding, code = divmod(kind, 16)
    if coding == 6:
        pos, more = varint(data, pos)
        number = code + 16 * more
        need(number < len(before) and before[number].parts, "C55")
        leaf = SimpleNamespace(**vars(before[number]))
        leaf.name, leaf.original = name, before[number]
        leaf.parts, leaf.exponents = [], []
        return pos, leaf
    if code == 15:
        pos, (more,) = take(data, pos, 1)
        code += more
    need(code < len(DTYPES), "C20")
    pos, (number,) = take(data, pos, 1)
    new, ndim = divmod(number, 32)
    shape = []
    for _ in range(ndim):
        pos, dimension = varint(data, pos)
        shape.append(dimension)
    dtype, width, _ = DTYPES[code]
    need(math.prod(d or 1 for d in shape) * width < 2**63, "C27")
    need(coding <= 8, "C28")
    labeled, book, split = 2 <= coding <= 5, None, None
    if labeled and 9 <= code <= 11 and new >= 4:
        new -= 4
        pos, number = varint(data, pos)
        split = divmod(number, 32)
        need(split[0] <= split[1] <= ndim, "C61")
    if new and width == 1:
        need(labeled and new == 1, "C21")
        pos, book = codebook_of_words(data, pos, code)
        books.append(book)
    elif new:
        storage = 8 + new
        need(labeled and 9 <= code <= 12 and storage <= 12, "C21")
        need(storage == code or DTYPES[storage][1] < width, "C21")
        pos, book = codebook(data, pos, code, storage)
        books.append(book)
    elif labeled:
        pos, index = varint(data, pos)
        need(index < len(books), "C29")
        book = books[index]
        need(book.code == code, "C30")
    need(sum(len(book.entries) for book in books) <= 2**20, "C45")
    leaf = SimpleNamespace(name=name, dtype=dtype, width=width, coding=coding)
    leaf.shape, leaf.size, leaf.original = tuple(shape), math.prod(shape), None
    leaf.parts, leaf.exponents, leaf.scales, leaf.codebook = [], [], 0, book
    if split:
        batches, rows, columns = leaf.view = viewed(leaf.shape, *split)
        leaf.scales = batches * (rows + columns)
        for count in (batches * rows, batches * columns):
            pos, size = varint(data, pos)
            leaf.exponents.append(SimpleNamespace(size=count, bytes=size))
    for own in shapes_of_parts(leaf.shape) if coding != 8 else ():
        pos, size = varint(data, pos)
        part = SimpleNamespace(shape=own, size=math.prod(own), bytes=size)
        part.coding, part.dtype, part.width, part.codebook = coding, dtype, width, book
        leaf.parts.append(part)
    return pos, leaf


def viewed(shape, batch, split):
    """The matrices, rows and columns that a leaf with scales is seen as (C61)."""
    return [
        math.prod(own) for own in (shape[:batch], shape[batch:split], shape[split:])
    ]


def shapes_of_parts(shape):
    """C58: a large leaf is cut along its leading axes, taken together as one."""
    if math.prod(shape) <= MOST:
        yield shape
        return
    inner = shape
    while math.prod(inner) > MOST:
        inner = inner[1:]
    rows = math.prod(shape[: len(shape) - len(inner)])
    step = MOST // math.prod(inner)
    for first in range(0, rows, step):
        yield min(step, rows - first), *inner


def codebook_of_words(data, pos, code):
    """Any bytes but 0; `entries` are numbers that ascend as they do."""
    name = DTYPES[code][0]

    def rank(word):
        if name in ("bool", "uint8") or word < 128:
            return word
        return word - 256 if name == "int8" else 127 - word

    pos, (count,) = take(data, pos, 1)
    if count <= 32:
        pos, words = take(data, pos, count)
    else:
        pos, flags = fields(data, pos, 256, 1, ("C6", "C54"))
        words = sorted((w for w, flag in enumerate(flags) if flag), key=rank)
    need(name != "bool" or max(words, default=0) <= 1, "C36")
    entries = [rank(word) for word in words]
    need(0 not in entries and len(entries) == count, "C54")
    need(all(a < b for a, b in itertools.pairwise(entries)), "C54")
    raws = [bytes([word]) for word in words]
    return pos, SimpleNamespace(code=code, raws=raws, entries=entries)


def codebook(data, pos, code, storage):
    pos, number = varint(data, pos)
    count, kind = number // 4, number % 4
    need(kind > 0 or count <= 2**15, "C22")
    pos, raw = take(data, pos, DTYPES[storage][1] * (1 if kind else count))
    entries = numbers(raw, storage)
    if kind:
        if kind == 3:
            pos, factors = grid_in_runs(data, pos, count)
        else:
            pos, factors = grid(data, pos, count, kind == 2)
        need(len(factors) <= 2**15, "C22")
        entries = [entries[0] * factor for factor in factors]
    need(all(map(math.isfinite, entries)), "C23")
    try:
        raws = [rounded(entry, code) for entry in entries]
    except OverflowError:
        raise Broken("C23") from None
    entries = numbers(b"".join(raws), code)
    need(all(math.isfinite(entry) and entry for entry in entries), "C23")
    need(all(a < b for a, b in itertools.pairwise(entries)), "C23")
    return pos, SimpleNamespace(code=code, raws=raws, entries=entries)


def grid(data, pos, count, has_gaps):
    """By what the step of a grid is multiplied."""
    pos, below = varint(data, pos)
    need(below <= count and max(below, count - below) <= 2**16, "C24")
    factors = [*range(-below, 0), *range(1, count - below + 1)]
    if has_gaps:
        pos, flags = fields(data, pos, count, 1, ("C6", "C24"))
        need(0 in flags, "C24")
        factors = [factor for factor, flag in zip(factors, flags, strict=True) if flag]
    return pos, factors


def grid_in_runs(data, pos, count):
    """By what the step of a grid is multiplied, run after run."""
    need(count, "C24")
    pos, first = varint(data, pos)
    place = -(first + 1) // 2 if first % 2 else first // 2
    places = []
    for run in range(count):
        if run:
            pos, gap = varint(data, pos)
            place += gap + 1
        pos, more = varint(data, pos)
        need(len(places) + more < 2**15, "C22")
        need(place >= -(2**28) and place + more < 2**28, "C24")
        places += range(place, place + more + 1)
        place += more + 1
    return pos, [place if place < 0 else place + 1 for place in places]


# ---- scales -------------------------------------------------------------------------

EIGHTHS = 0x3F800000, 0x3F8B95C2, 0x3F9837F0, 0x3FA5FED7
EIGHTHS += 0x3FB504F3, 0x3FC5672A, 0x3FD744FD, 0x3FEAC0C7


def scale(exponent):
    """C64: 2**(exponent / 8), but for what a float32 rounds."""
    (eighth,) = struct.unpack("<f", struct.pack("<I", EIGHTHS[exponent % 8]))
    return math.ldexp(eighth, exponent // 8)


def product(entry, scale):
    """A product of two numbers of float32, which is exact in float64, rounded."""
    try:
        return struct.unpack("<f", struct.pack("<f", entry * scale))[0]
    except OverflowError:
        return math.inf


def exponents(body, count):
    """Those of the rows or of the columns of a leaf."""
    need(len(body) <= count, "C62")
    if len(body) < count:
        body = planes(body, count, "int8", 1)
    return list(struct.unpack(f"{count}b", body))


def check_scales(known, leaf):
    """C63, for all products that the least and the greatest exponents allow."""
    sizes = [abs(entry) for entry in leaf.codebook.entries]
    if not (sizes and all(known)):
        return
    for end in (min, max):
        found = [end(sizes)]
        for own in known:
            found.append(product(found[-1], scale(end(own))))
        need(all(2**-125 <= size < math.inf for size in found), "C63")
        try:
            (last,) = numbers(
                rounded(found[-1], leaf.codebook.code), leaf.codebook.code
            )
        except OverflowError:
            raise Broken("C63") from None
        need(0 < last < math.inf, "C63")


def scaled(raw, known, leaf):
    """The bytes of entries that are multiplied by the scales of rows and columns."""
    _, rows, columns = leaf.view
    first, last = known
    found = []
    for i, entry in enumerate(numbers(raw, leaf.codebook.code)):
        row, column = divmod(i, columns)
        once = product(entry, scale(first[row]))
        twice = product(once, scale(last[row // rows * columns + column]))
        found.append(rounded(twice, leaf.codebook.code))
    return b"".join(found)


# ---- bodies -------------------------------------------------------------------------


def values(body, leaf):
    """The bytes of the values of a leaf that is whole, or of a part of one."""
    need(leaf.size or not body, "C34")
    if not leaf.size:
        return b""
    if leaf.coding == 0:
        need(len(body) == leaf.size * leaf.width, "C35")
        return booleans(body, leaf)
    if leaf.coding == 7:
        return booleans(planes(body, leaf.size, leaf.dtype, leaf.width), leaf)
    dense = [bytes(leaf.width)] * leaf.size
    if leaf.coding == 1:
        pos, positions = gaps(body, leaf.size)
        need(len(body) == pos + len(positions) * leaf.width, "C35")
        booleans(body[pos:], leaf)
        kept = [body[i : i + leaf.width] for i in range(pos, len(body), leaf.width)]
        need(all(any(value) for value in kept), "C37")
        for position, value in zip(positions, kept, strict=True):
            dense[position] = value
        return b"".join(dense)
    book = leaf.codebook
    read = {2: packed, 3: relative, 4: order0, 5: grouped}[leaf.coding]
    end, labels = read(body, leaf.shape, book.entries)
    need(end == len(body), "L1")
    need(all(label <= len(book.entries) for label in labels), "L4")
    return b"".join([dense[0], *book.raws][label] for label in labels)


def planes(body, size, dtype, width):
    """The bytes of values that are stored by planes."""
    if dtype.startswith("complex"):
        size, width = 2 * size, width // 2
    pos, heads = 0, []
    for _ in range(width):
        pos, head = plane_head(body, pos, size)
        heads.append(head)
    for head in heads:
        pos, head.stored = take(body, pos, head.coded.count(0), "V1")
    lanes = []
    if any(head.symbols > 1 for head in heads):
        pos, lanes = begin(body, pos)
    need(pos == len(body), "V1")
    columns = []
    for head in heads:  # V4
        count = head.coded.count(1)
        coded = [head.first] * count
        if head.symbols > 1:
            coded = decoded(lanes, [head.model] * count)
        coded, stored = iter(coded), iter(head.stored)
        columns.append([next(coded if flag else stored) for flag in head.coded])
    finish(lanes)
    words = [int.from_bytes(word, "big") for word in zip(*columns, strict=True)]  # V3
    raw = [ungrouped(word, dtype, width).to_bytes(width, "little") for word in words]
    return b"".join(raw)


def plane_head(body, pos, size):
    """How a plane is written: `coded` says it of each byte."""
    pos, symbols = varint(body, pos, "V5")
    head = SimpleNamespace(symbols=symbols, first=0, model=[], coded=[0] * size)
    if symbols:
        pos, (head.first,) = take(body, pos, 1, "V1")
        need(head.first + symbols <= 256, "V6")
        if symbols > 1:
            pos, codes = fields(body, pos, symbols, 6, ("V1", "V9"))
            need(codes[0] and codes[-1], "V7")
            head.model = [0] * head.first + shares(*weights_of(codes))
        flags = [1]
        if size > 2**14:
            pos, flags = fields(body, pos, -(-size // 2**14), 1, ("V1", "V9"))
        need(1 in flags, "V8")
        head.coded = [flags[i // 2**14] for i in range(size)]
    return pos, head


def ungrouped(word, dtype, width):
    """A word with its bits where they belong (V2)."""
    sign = 8 * width - 1
    exponents = {"float16": 5, "bfloat16": 8, "float32": 8, "complex64": 8}
    exponents |= {"float64": 11, "complex128": 11}
    if dtype in exponents:
        found = f"{word:0{8 * width}b}"
        front = min(exponents[dtype], 8)  # bits of the exponent that were put in front
        behind = 1 + exponents[dtype] - front
        moved = found[front : front + behind]
        return int(moved + found[:front] + found[front + behind :], 2)
    if dtype.startswith("int") and word >> sign:
        return word ^ (2**sign - 1)
    return word


def booleans(raw, leaf):
    need(leaf.dtype != "bool" or set(raw) <= {0, 1}, "C36")
    return raw


def bits(data, pos, count, clauses):
    """So many bits as a string, and the position after their padding."""
    cut, padding = clauses
    end = pos + (count + 7) // 8
    need(end <= len(data), cut)
    found = "".join(f"{byte:08b}" for byte in data[pos:end])
    need("1" not in found[count:], padding)
    return end, found[:count]


def fields(data, pos, count, width, clauses=("L1", "L2")):
    """Numbers of `width` bits, and the position after their padding."""
    pos, found = bits(data, pos, count * width, clauses)
    return pos, cut(found, count, width)


def cut(found, count, width):
    parts = [found[i * width : (i + 1) * width] for i in range(count)]
    return [int(part or "0", 2) for part in parts]


def packed(body, shape, entries):
    return fields(body, 0, math.prod(shape), len(entries).bit_length())


def gaps(body, size):
    """The positions part of sparse and relative bodies."""
    pos, (width, low_bits) = take(body, 0, 2, "L1")
    need(1 <= width <= 16 and low_bits <= 32, "L5")
    pos, count = varint(body, pos)
    need(count <= size, "L6")
    pos, symbols = stream(body, pos, count)
    filler = 2**width - 1
    kept = sum(symbol != filler for symbol in symbols)
    pos, low = fields(body, pos, kept, low_bits)
    return pos, ranks(symbols, filler, low_bits, low, size)


def ranks(symbols, filler, low_bits, low, size):
    need(all(symbol <= filler for symbol in symbols), "G5")
    need(not symbols or symbols[-1] < filler, "G6")
    found, here, rest = [], 0, iter(low)
    for symbol in symbols:  # G2, G3, G7
        here += symbol << low_bits
        if symbol < filler:
            found.append(here + next(rest))
            here = found[-1] + 1
    need(here <= size, "L7")
    return found


def relative(body, shape, entries):
    pos, positions = gaps(body, math.prod(shape))
    pos, indices = stream(body, pos, len(positions))
    return pos, labeled(positions, indices, shape)


def labeled(positions, indices, shape):
    labels = [0] * math.prod(shape)
    for position, index in zip(positions, indices, strict=True):
        labels[position] = index + 1
    return labels


def order0(body, shape, entries):
    need(len(entries) <= 1023, "L17")
    pos, model = frequencies(body, 0, len(entries) + 1)
    pos, lanes = begin(body, pos)
    several = sum(frequency > 0 for frequency in model) > 1
    need(not several or any(lane.state for lane in lanes), "L21")
    labels = decoded(lanes, [model] * math.prod(shape))
    finish(lanes)
    return pos, labels


def grouped(body, shape, entries):
    need(len(entries) <= 1024, "L17")
    pos, groups = groups_of(body, shape)
    for group in groups:
        if group.places:
            pos, group.count = varint(body, pos)
            need(group.count <= len(group.places), "L6")
    used = [group for group in groups if group.count]
    if not used:
        return pos, [0] * math.prod(shape)
    pos, splits = varint(body, pos) if len(groups) > 1 else (pos, 0)
    need(splits % 2 == 0 and splits < 2 ** len(groups), "L10")
    tables = []
    for _ in range(1 + splits.bit_count()):
        pos, table = index_table(body, pos, entries)
        tables.append(table)
    for i, group in enumerate(groups):
        group.table = tables[(splits % 2 ** (i + 1)).bit_count()]
    pos, lanes = begin(body, pos)
    models = [[gap_model(len(g.places), g.count)] * g.count for g in used]
    symbols = iter(decoded(lanes, sum(models, [])))
    for group in used:
        group.symbols = list(itertools.islice(symbols, group.count))
        group.kept = sum(symbol < 32 for symbol in group.symbols)
        group.low_bits = gap_bits(len(group.places), group.count)
    indices = decoded(lanes, sum([[g.table] * g.kept for g in used], []))
    finish(lanes)
    total = sum(g.kept * g.low_bits for g in used)
    pos, low = bits(body, pos, total, ("L1", "L2"))
    positions = []
    for g in used:
        own, low = low[: g.kept * g.low_bits], low[g.kept * g.low_bits :]
        own = cut(own, g.kept, g.low_bits)
        found = ranks(g.symbols, 32, g.low_bits, own, len(g.places))
        positions += [g.places[rank] for rank in found]
    return pos, labeled(positions, indices, shape)


def class_indices(leaf, data):
    """Of the axes whose classes are there; 0 if the body does not say it."""
    if leaf.coding != 5 or not leaf.size:
        return 0
    try:
        _, axes = varint(data[leaf.start : leaf.start + leaf.bytes], 0)
    except Broken:
        return 0
    return sum(size for axis, size in enumerate(leaf.shape) if axes >> axis & 1)


def groups_of(body, shape):
    """The groups: `places` are the positions of a group, by rank."""
    pos, axes = varint(body, 0)
    need(axes < 2 ** len(shape), "L8")
    classes = [[0] * size if axes >> a & 1 == 0 else [] for a, size in enumerate(shape)]
    present = [axis for axis in range(len(shape)) if axes >> axis & 1]
    need(sum(shape[axis] for axis in present) <= 2**16, "L18")
    said, most = [], 0
    for axis in present:
        pos, (own,) = take(body, pos, 1, "L1")
        most += own
        need(0 < own <= 15 and most <= 62, "L9")
        pos, context = varint(body, pos)
        said.append((axis, own, context))
    if present:
        pos, lanes = begin(body, pos)
        for axis, own, context in said:
            classes[axis] = learned(lanes, shape[axis], own, context)
        finish(lanes)
        need(all(max(classes[axis]) == own for axis, own, _ in said), "L20")
    groups = [SimpleNamespace(places=[], count=0) for _ in range(most + 1)]
    for position, index_classes in enumerate(itertools.product(*classes)):
        groups[sum(index_classes)].places.append(position)
    return pos, groups


def learned(lanes, size, most, context):
    """The classes of an axis (L19)."""
    classes, seen = [], {}
    for i in range(size):
        around = 0
        if 0 < context // 2 <= i:
            around += classes[i - context // 2]
        if context % 2 and i > 0:
            around += classes[i - 1]
        weights = seen.setdefault(around, [1] * (most + 1))
        sums = list(itertools.accumulate(weights, initial=0))
        starts = [c + (4095 - most) * w // sums[-1] for c, w in enumerate(sums)]
        model = [b - a for a, b in itertools.pairwise(starts)]
        classes += decoded(lanes, [model])
        weights[classes[-1]] += 4
    return classes


# ---- models -------------------------------------------------------------------------


def shares(weights, used):
    """4096 shared out in proportion to the weights."""
    spare = 4096 - sum(used)
    total = sum(weights)
    found = [w * spare // total + u for w, u in zip(weights, used, strict=True)]
    found[weights.index(max(weights))] += 4096 - sum(found)
    return found


def frequencies(body, pos, alphabet):
    pos, codes = fields(body, pos, alphabet, 6)
    need(any(codes), "L3")
    return pos, shares(*weights_of(codes))


def weights_of(codes):
    """The weights of symbols with these codes (L12), and which of them are used."""
    roots = 65536, 77936, 92682, 110218
    weights = [roots[code % 4] << code // 4 if code else 0 for code in codes]
    return weights, [code > 0 for code in codes]


def index_table(body, pos, entries):
    pos, (code,) = take(body, pos, 1, "L1")
    need(code <= 64 and entries, "L3")
    if code == 0:
        return frequencies(body, pos, len(entries))
    mean = 4 + (code - 1) % 4 << (code - 1) // 4
    factor = 2**32 * mean // (mean + 16)
    falling = [2**31]
    while len(falling) < len(entries):
        falling.append(falling[-1] * factor // 2**32)
    below = sum(entry < 0 for entry in entries)
    weights = falling[:below][::-1] + falling[: len(entries) - below]
    return pos, shares(weights, [True] * len(entries))


def gap_bits(size, count):
    return max((size // (4 * count)).bit_length() - 1, 0)


def gap_model(size, count):
    stay = 2**32 * (size - count) // size
    for _ in range(gap_bits(size, count)):
        stay = stay * stay // 2**32
    left = [2**32]
    for _ in range(32):
        left.append(left[-1] * stay // 2**32)
    weights = [a - b for a, b in itertools.pairwise(left)] + left[-1:]
    return shares(weights, [True] * 33)


# ---- streams ------------------------------------------------------------------------


def index(data, pos, most, clauses):
    """Sizes of the lanes of a Huffman or rANS stream."""
    bad_varint, bad_lanes, bad_width, padding, cut_off = clauses
    pos, number = varint(data, pos, bad_varint)
    base = number // 2
    if number % 2 == 0:
        return pos, [base]
    pos, lanes = varint(data, pos, bad_varint)
    need(2 <= lanes <= most, bad_lanes)
    pos, (width,) = take(data, pos, 1, cut_off)
    need(width <= 32, bad_width)
    pos, more = fields(data, pos, lanes, width, (cut_off, padding))
    return pos, [base + extra for extra in more]


def stream(data, pos, count):
    """A Huffman stream of `count` symbols."""
    pos, size = varint(data, pos, "H7")
    need((size == 0) == (count == 0) and size <= 65536, "H8")
    lengths, taken = [], 0
    while len(lengths) < size:  # H6
        length, taken = half_byte(data, pos, taken), taken + 1
        if length:
            lengths.append(length)
        else:
            run, taken = half_byte(data, pos, taken), taken + 1
            lengths += [0] * (run + 1)
            need(len(lengths) < size, "H9")
    pos, _ = bits(data, pos, 4 * taken, ("H17", "H11"))
    used = sorted((length, symbol) for symbol, length in enumerate(lengths) if length)
    if not used or (len(used) == 1 and used[0][0] == 1):  # H4, H5
        return pos, [used[0][1]] * count if used else []
    need(sum(2 ** (15 - length) for length, _ in used) == 2**15, "H10")
    words, word, last = {}, 0, 0
    for length, symbol in used:  # H2
        word <<= length - last
        words[f"{word:0{length}b}"] = symbol
        word, last = word + 1, length
    pos, sizes = index(data, pos, count // 16, ("H7", "H13", "H14", "H11", "H17"))
    need(8 * pos + sum(sizes) <= 8 * len(data), "H17")
    need(sum(sizes) >= count, "H16")  # a word has at least one bit
    pos, found = bits(data, pos, sum(sizes), ("H17", "H11"))
    symbols, at, end = [0] * count, 0, 0
    for lane, lane_bits in enumerate(sizes):  # H12, H15
        end += lane_bits
        for i in range(lane, count, len(sizes)):
            word = ""
            while word not in words:
                need(at < end, "H16")
                word, at = word + found[at], at + 1
            symbols[i] = words[word]
        need(at == end, "H16")
    return pos, symbols


def half_byte(data, pos, i):
    need(pos + i // 2 < len(data), "H17")
    return data[pos + i // 2] >> (0 if i % 2 else 4) & 15


def begin(data, pos):
    """The lanes of a rANS stream, and the position after it."""
    most = (len(data) - pos) // 4
    pos, sizes = index(data, pos, most, ("E2", "E3", "E4", "E5", "E6"))
    need(pos + 4 * len(sizes) + 2 * sum(sizes) <= len(data), "E6")
    states = struct.unpack_from(f"<{len(sizes)}I", data, pos)
    pos += 4 * len(sizes)
    lanes = []
    for state, size in zip(states, sizes, strict=True):
        need(state >= 2**16 or size == 0, "E7")
        words = list(struct.unpack_from(f"<{size}H", data, pos))
        lanes.append(SimpleNamespace(state=state, words=words[::-1]))
        pos += 2 * size
    return pos, lanes


def decoded(lanes, models):
    """The symbols of a segment, of one model each."""
    symbols = []
    for i, model in enumerate(models):  # E1
        lane = lanes[i % len(lanes)]
        high, rest = divmod(lane.state, 4096)
        symbol = 0
        while rest >= model[symbol]:
            rest -= model[symbol]
            symbol += 1
        symbols.append(symbol)
        lane.state = model[symbol] * high + rest
        if lane.state < 2**16 and lane.words:
            lane.state = lane.state * 2**16 + lane.words.pop()
    return symbols


def finish(lanes):
    need(all(lane.state == 0 and not lane.words for lane in lanes), "E8")


if __name__ == "__main__":
    with open(sys.argv[1], "rb") as opened:
        _, leaves, said = decode(opened.read())
    for name, dtype, shape, raw in leaves:
        print(name, dtype, list(shape), f"{len(raw)} bytes")
    for key, value in said.items():
        print(f"{key!r}: {value!r}")
