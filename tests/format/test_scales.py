"""Scales of rows and columns: values, bytes, limits, and what is read of a file."""

import math
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import deepcomp_jax as dc
from deepcomp_jax import FormatError, account, codings
from deepcomp_jax._types import Compressed, Scales, SharedLeaf
from deepcomp_jax.device import leaves
from deepcomp_jax.format import container, leaf_reading, reader, scales, source
from tests.format.test_memory import READERS, peak
from tests.support import laws, readers, small_parts, strategies
from tests.support.readers import DECODER

MOST = 1 << 24  # of memory
DTYPES = container.DTYPES[9:12]  # float16, bfloat16, float32
BOOK = np.array([-1.5, -0.25, 0.125, 2], np.float32)
SCALE = np.exp2(np.arange(-128, 128) / 8).astype(np.float32)  # of -128 to 127


def network(*leaves: SharedLeaf, book: np.ndarray = BOOK) -> Compressed:
    """A list of leaves that have one codebook."""
    return Compressed([*range(len(leaves))], leaves, (book,))


def leaf(
    labels: np.ndarray, first: Any, last: Any, batch: int = 0, split: int = 1
) -> SharedLeaf:
    """A packed leaf with scales."""
    exponents = np.array(first, np.int8), np.array(last, np.int8)
    return SharedLeaf(labels, 0, "packed", scales=Scales(batch, split, *exponents))


def expected(own: SharedLeaf, book: np.ndarray) -> np.ndarray:
    """The values of a leaf, by the formula."""
    assert own.scales is not None
    batch, split, first, last = own.scales
    shape = own.labels.shape
    entries = np.concatenate([np.zeros(1, book.dtype), book])[own.labels]
    cube = entries.astype(np.float32).reshape(
        math.prod(shape[:batch]),
        math.prod(shape[batch:split]),
        math.prod(shape[split:]),
    )
    rows, columns = (SCALE[own.astype(int) + 128] for own in (first, last))
    products = cube * rows[:, :, None] * columns[:, None, :]
    return products.astype(book.dtype).reshape(shape)


@st.composite
def scaled(draw: st.DrawFn) -> tuple[SharedLeaf, np.ndarray]:
    """A leaf with scales in any coding, and its codebook."""
    dtype = draw(st.sampled_from(DTYPES))
    k = draw(st.integers(1, 20))
    numbers = np.arange(1, k + 1) * np.array(draw(st.sampled_from([1, 0.25])))
    book = np.unique((numbers * (-1) ** np.arange(k)).astype(dtype))
    shape = draw(strategies.shapes())
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = rng.integers(0, k + 1, shape, np.uint8)
    labels[rng.random(shape) < draw(st.sampled_from([0, 0.9]))] = 0
    coding = draw(st.sampled_from([None, *codings.ALL]))
    found = draw(strategies.scales(shape, 28 if dtype == "f2" else 127))
    return SharedLeaf(labels, 0, coding, scales=found), book


# ---- values -------------------------------------------------------------------------


@pytest.mark.spec("C39", "C64")
@settings(max_examples=150)
@given(scaled(), st.integers(1, 60))
def test_every_reader_finds_the_products(
    given: tuple[SharedLeaf, np.ndarray], most: int
):
    own, book = given
    values = expected(own, book)
    written = network(own, own, book=book)
    with small_parts.limited(most), tempfile.TemporaryDirectory() as folder:
        data = container.dumps(written)
        back = container.loads(data)
        assert container.dumps(back) == data
        for found in back.leaves:
            laws.assert_identical(container.values(found, back.codebooks), values)
            assert isinstance(found, SharedLeaf)
            laws.assert_identical(found.scales, own.scales)
        every = [(values.dtype.name, values.shape, values.tobytes())] * 2
        path = Path(folder) / "m.dcz"
        assert readers.differing(data, every, MOST, path) == ""
    laws.assert_identical(dc.decompress(written), [values, values])


@pytest.mark.spec("C64")
def test_the_scales_are_powers_of_two_but_for_rounding():
    exponents = np.arange(-128, 128)
    found = scales.TABLE[exponents.astype(np.int8).view(np.uint8)]
    laws.assert_identical(found, SCALE)
    assert [DECODER.scale(e) for e in exponents.tolist()] == found.tolist()


@pytest.mark.spec("C64")
def test_each_product_is_rounded_once_and_in_order():
    """Values for which any other order of products rounds to other bits."""
    book = np.float32([1.1])
    own = leaf(np.ones((7, 9), np.uint8), [range(-3, 4)], [range(1, 10)])
    found = container.values(own, (book,))
    rows, columns = SCALE[128 - 3 : 128 + 4, None], SCALE[None, 129:138]
    laws.assert_identical(found, np.float32(1.1) * rows * columns)
    assert (found != np.float32(1.1) * columns * rows).any()
    assert (found != np.float32(1.1) * (rows * columns)).any()
    exact = np.float64(book[0]) * rows * np.float64(columns)
    assert (found != exact.astype(np.float32)).any()


@pytest.mark.spec("C64")
def test_long_rows_and_many_short_ones():
    rng = np.random.default_rng(0)
    for shape in ((3, 1, 70_000), (2, 70_000, 3), (70_000, 2, 1), (2, 300, 300)):
        first = rng.integers(-9, 9, shape[:2], np.int8)
        last = rng.integers(-9, 9, shape[::2], np.int8)
        own = leaf(rng.integers(0, 5, shape, np.uint8), first, last, 1, 2)
        found = container.values(own, (BOOK,))
        laws.assert_identical(found, expected(own, BOOK))


@pytest.mark.spec("C63", "C64")
def test_products_that_are_subnormal_in_float16():
    """NumPy, the decoder of the specification and XLA round them alike."""
    book = np.float16([-1.001, 0.75, 1, 1.25])
    labels = np.arange(5 * 64).reshape(64, 5) % 5
    first = -64 - np.arange(64) // 2
    own = leaf(labels, [first], [[-64, -65, -66, -67, -68]])
    data = container.dumps(network(own, book=book))
    values = container.read_values(data)[0]
    small = np.abs(values.astype(np.float64))
    assert ((small > 0) & (small < 2.0**-14)).sum() == np.count_nonzero(labels)
    laws.assert_identical(values, expected(own, book))
    _, [(*_, raw)], _ = DECODER.decode(data)
    assert raw == values.tobytes()
    wide = SCALE[first + 128][:, None] * SCALE[60:65][None, ::-1]
    on_device = jax.jit(lambda x: x.astype(jnp.float16))(wide)
    laws.assert_identical(on_device, wide.astype(np.float16))


@pytest.mark.spec("C64")
@settings(max_examples=60)
@given(scaled())
def test_a_device_finds_the_same_products(given: tuple[SharedLeaf, np.ndarray]):
    own, book = given
    held = source.of_bytes(container.dumps(network(own, book=book)))
    header = reader.read_header(held)
    found = leaf_reading.read_unscaled(held, header, header.leaves[0])
    assert found.exponents is not None
    entries = jax.device_put(found.entries, may_alias=False)
    laws.assert_identical(
        leaves.multiplied(entries, found.exponents), expected(own, book)
    )


def test_another_device_than_the_host_multiplies(monkeypatch: pytest.MonkeyPatch):
    """As if the CPU were none: what was decoded goes there without its scales."""
    labels = np.arange(6000).reshape(2, 3000) % 5
    own = leaf(labels, [[1, 2]], np.arange(3000)[None] % 100)
    data = container.dumps(network(own, SharedLeaf(labels, 0), own))
    given: list[int] = []

    def counted(entries: jax.Array, *args: Any) -> jax.Array:
        given.append(entries.size)
        return multiplied(entries.copy(), *args)

    multiplied = leaves.multiplied
    monkeypatch.setattr(leaves, "multiplied", counted)
    for is_cpu in (True, False):
        monkeypatch.setattr(leaves, "_is_cpu", lambda _, cpu=is_cpu: cpu)
        found = dc.loads(data, device=jax.devices()[0])
        laws.assert_identical(found, container.read_values(data))
        assert len(given) == (0 if is_cpu else 2)


# ---- what is written ----------------------------------------------------------------


@pytest.mark.spec("C62")
@given(st.lists(st.integers(-128, 127), max_size=400), st.integers(1, 128))
def test_exponents_take_the_smaller_body(exponents: list[int], step: int):
    given = np.array([own // step for own in exponents], np.int8)
    body = scales.put(given)
    assert len(body) <= given.size
    laws.assert_identical(scales.get(body, given.size), given)
    assert DECODER.exponents(body, given.size) == given.tolist()
    assert len(body) < given.size or body == given.tobytes()


@pytest.mark.spec("C62")
def test_few_exponents_take_few_bits():
    rng = np.random.default_rng(0)
    given = np.rint(rng.normal(scale=2, size=20_000)).astype(np.int8)
    assert len(scales.put(given)) < 3.2 / 8 * given.size  # 3.05 bits each
    assert len(scales.put(np.zeros(16_000, np.int8))) == 2
    assert scales.put(np.int8([])) == b""


@pytest.mark.spec("C56")
def test_leaves_with_other_scales_are_no_copies():
    labels = np.arange(24).reshape(2, 3, 4) % 5
    zero = np.zeros(24, np.int8)
    leaves = [
        leaf(labels, zero[:2].reshape(1, 2), zero[:12].reshape(1, 12)),
        leaf(labels, zero[:2].reshape(2, 1), zero[:24].reshape(2, 12), 1, 1),
        leaf(labels, zero[:2].reshape(1, 2), [[1] * 12]),
        SharedLeaf(labels, 0, "packed"),
    ]
    header = container.read_header(container.dumps(network(*leaves, *leaves)))
    copied = [entry.layout.copy_of for entry in header.leaves]
    assert copied == [None] * 4 + [0, 1, 2, 3]
    assert [len(entry.exponents) for entry in header.leaves] == [2, 2, 2, 0] + [0] * 4


@pytest.mark.spec("C61")
def test_scales_take_a_byte_of_the_header_and_their_exponents():
    labels = np.arange(24).reshape(4, 6) % 5
    plain = container.dumps(network(SharedLeaf(labels, 0, "packed")))
    own = leaf(labels, [[1, 2, 3, 4]], [[1, 2, 3, 4, 5, 6]])
    # One for where the axes are divided, two for the sizes of the bodies.
    assert len(container.dumps(network(own))) == len(plain) + 3 + 10


def test_an_account_has_all_bits_and_those_of_exponents_apart():
    labels = np.arange(6000).reshape(2, 3000) % 5
    own = leaf(labels, [[1, 2]], np.arange(3000)[None] % 100)
    data = container.dumps(network(own, own))
    found = account.account(data, compare=True)
    first, copy = found.tensors
    assert sum(found.total) == 8 * len(data)
    body = container.read_header(data).leaves[0].exponents[1]
    assert body.checksum_bytes == 4
    assert first.parts.scales == 8 * (2 + body.size)
    assert copy.parts.scales == 0
    assert first.kept == copy.kept == np.count_nonzero(labels)
    assert first.unique == 4
    plain = account.account(
        container.dumps(network(own._replace(scales=None))), compare=True
    )
    assert found.bound == plain.bound + first.parts.scales
    assert first.runner_up and plain.tensors[0].runner_up
    more = first.parts.scales // 8
    assert first.runner_up[1] == plain.tensors[0].runner_up[1] + more
    assert " scales " in str(found)
    assert " scales " not in str(plain)


# ---- what is read -------------------------------------------------------------------


@pytest.mark.spec("C42")
@pytest.mark.parametrize("rows", [slice(2, 3), slice(1, 4), slice(5, 6), slice(0, 6)])
def test_a_slice_is_read_from_its_own_parts_and_the_exponents(rows: slice):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, (6, 20, 100), np.uint8)
    first = rng.integers(-99, 99, (6, 20), np.int8)
    own = leaf(labels, first, rng.integers(-99, 99, (6, 100), np.int8), 1, 2)
    read: list[tuple[int, int]] = []
    with small_parts.limited(2000):
        data = container.dumps(network(own))
        header = container.read_header(data)
        (entry,) = header.leaves

        def noted(offset: int, size: int) -> bytes:
            read.append((offset, size))
            return data[offset : offset + size]

        held = source.Source(noted, len(data))
        found = leaf_reading.read_values(held, header, entry, rows)
    laws.assert_identical(found, expected(own, BOOK)[rows])
    sections = [*entry.exponents, *entry.sections[rows]]
    assert read == [(s.offset, s.size + s.checksum_bytes) for s in sections]


@pytest.mark.spec("C31")
def test_exponents_count_towards_the_memory():
    many = leaf(np.ones((4, 3000), np.uint8), [[1] * 4], [[2] * 3000])
    few = leaf(np.ones((1000, 4), np.uint8), [[1] * 1000], [[2] * 4])
    for own, largest in ((many, 3000), (few, 1000)):
        with small_parts.limited(500):
            data = container.dumps(network(own, own))
            counted = 4 * own.labels.size + sum(own.labels.shape)
            most = 2 * counted + 8 * largest
            for read in (container.loads, container.read_values, account.account):
                read(data, max_bytes=most)
                with pytest.raises(FormatError, match="C31"):
                    read(data, max_bytes=most - 1)
            DECODER.decode(data, most)
            with pytest.raises(DECODER.Broken, match="C31"):
                DECODER.decode(data, most - 1)
            (entry, _) = container.read_header(data).leaves
            rows = slice(1, 2)
            each = 4 * own.labels.shape[1] + sum(own.labels.shape) + 8 * largest
            reader.check_leaf(entry, each, rows)
            with pytest.raises(FormatError, match="C31"):
                reader.check_leaf(entry, each - 1, rows)


@pytest.mark.spec("C47", "C31")
@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("split", [0, 1])
def test_exponents_take_no_more_memory_than_is_counted(
    name: str, split: int, tmp_path: Path
):
    """A few bytes say all of them, by a plane that is one symbol or two."""
    n, path = 1 << 18, tmp_path / "m.dcz"
    peaks: list[int] = []
    for size in (n, 2 * n):
        alike = np.zeros((1, size), np.int8)
        alike[0, 0] = 1
        both = [[0]], alike
        own = leaf(np.zeros(size, np.uint8), *both[:: 1 - 2 * split], split=split)
        coded = own._replace(coding="relative")
        data = container.dumps(network(coded)._replace(structure=0))
        assert len(data) < 300
        peaks.append(peak(READERS[name], path, data))
    assert peaks[1] - peaks[0] < (4 + 1 + 8) * n
    assert peaks[0] < (4 + 1 + 8) * n + (1 << 24)


def test_leaves_of_a_file_that_was_read_have_memory_of_their_own():
    own = leaf(np.ones((2, 2), np.uint8), [[1, 2]], [[3, 4]])
    first, copy = container.loads(container.dumps(network(own, own))).leaves
    assert isinstance(first, SharedLeaf) and isinstance(copy, SharedLeaf)
    assert first.scales and copy.scales
    for a, b in zip(first.scales[2:], copy.scales[2:], strict=True):
        assert not np.shares_memory(a, b)


# ---- what cannot be written ---------------------------------------------------------


@pytest.mark.spec("C44", "C61")
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Scales(1, 0, np.int8([[0]]), np.int8([[0]])), "got batch=1, split=0"),
        (Scales(0, 3, np.int8([[0]]), np.int8([[0]])), "divide the 2 axes at 0 <= "),
        (Scales(-1, 1, np.int8([[0]]), np.int8([[0]])), "got batch=-1, split=1"),
        (Scales(0, 1, np.int8([0, 0]), np.int8([[0] * 3])), r"`first` must be .*1, 2"),
        (Scales(0, 1, np.int8([[0, 0]]), np.int8([[0]])), r"`last` must be .*\[1, 3\]"),
        (Scales(0, 1, np.zeros((1, 2)), np.int8([[0]])), "got float64"),
    ],
)
def test_scales_that_do_not_fit(given: Scales, message: str):
    own = SharedLeaf(np.ones((2, 3), np.uint8), 0, scales=given)
    with pytest.raises(ValueError, match=f"leaf '0': .*{message}"):
        container.dumps(network(own))


@pytest.mark.spec("C44")
def test_only_three_dtypes_can_be_scaled():
    own = leaf(np.ones((1, 1), np.uint8), [[0]], [[0]])
    for dtype in (np.float64, np.int8):
        with pytest.raises(ValueError, match="for float16, bfloat16, float32, not for"):
            container.dumps(network(own, book=np.array([1], dtype)))


def entries(dtype: Any, *values: float) -> np.ndarray:
    """A codebook."""
    return np.array(values).astype(dtype)


@pytest.mark.spec("C63")
@pytest.mark.parametrize(
    ("book", "exponents", "fine"),
    [
        (entries("f4", 2.0**-125), (0, 0), True),
        (entries("f4", 2.0**-125 - 2.0**-148), (0, 0), False),
        (entries("f4", -(2.0**-125)), (8, -8), True),
        (entries("f4", 2.0**-125), (-1, 8), False),
        (entries("f4", 2.0**-125), (8, -9), False),
        (entries("f4", 2.0**-149), (127, 127), False),
        (entries("f4", 2.0**127), (7, 0), True),
        (entries("f4", 2.0**127), (8, -8), False),
        (entries("f4", -(2.0**127)), (-8, 16), False),
        (entries("bfloat16", 2.0**127), (7, 0), True),
        (entries("bfloat16", 1.9921875 * 2.0**127), (0, 0), True),
        # Finite in float32, and infinite in bfloat16 by rounding.
        (entries("bfloat16", 152 * 2.0**120), (5, 0), True),
        (entries("bfloat16", 152 * 2.0**120), (6, 0), False),
        (entries("f2", 65504), (0, 0), True),
        (entries("f2", 65504), (1, -1), True),  # a little less, and rounded to it
        (entries("f2", 65504), (1, 0), False),
        (entries("f2", 2.0**-24), (0, 0), True),
        (entries("f2", 2.0**-24), (-7, 0), True),  # above a half
        (entries("f2", 2.0**-24), (-8, 0), False),  # exactly half of it: even, zero
        (entries("f2", 1), (-100, -92), True),
        (entries("f2", 1), (-100, -100), False),
        (entries("f4", 1, 2.0**-125), (-1, 8), False),  # the least entry counts
    ],
)
def test_products_beyond_what_numbers_can_hold(
    book: np.ndarray, exponents: tuple[int, int], fine: bool
):
    book = np.sort(book)
    row, column = exponents
    own = leaf(np.ones((1, 1), np.uint8), [[row]], [[column]])
    known = scales.Exponents(scales.View(1, 1, 1), np.int8([row]), np.int8([column]))
    problem = scales.problem(known, book)
    assert (problem is None) == fine
    if fine:
        found = container.values(own, (book,)).astype(np.float64)
        assert np.isfinite(found).all() and found.all()
        return
    with pytest.raises(ValueError, match="products of entries and scales may be"):
        container.dumps(network(own, book=book))


@pytest.mark.spec("C63")
@given(scaled(), st.integers(-126, 127))
def test_what_is_in_bounds_has_no_zero_and_no_infinity(
    given: tuple[SharedLeaf, np.ndarray], power: int
):
    own, book = given
    assert own.scales is not None
    with np.errstate(over="ignore"):
        book = np.ldexp(book.astype(np.float32), power).astype(book.dtype)
    if not (np.isfinite(book.astype(np.float32)).all() and (book != 0).all()):
        return
    split = scales.Split(*own.scales[:2])
    exponents = scales.Exponents(
        split.view(own.labels.shape), *(own.ravel() for own in own.scales[2:])
    )
    with np.errstate(over="ignore"):
        values = expected(own, book).astype(np.float64)
    if scales.problem(exponents, book) is None:
        assert np.isfinite(values).all()
        assert ((values != 0) == (own.labels != 0)).all()
