"""The codings of labels: the law, the models, the groups, and what readers reject."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepcomp_jax import codings
from deepcomp_jax._errors import FormatError
from deepcomp_jax.codings import Leaf, group_search, grouping, relative, symbol_models
from tests.support import laws, strategies
from tests.support import vector_parts as parts
from tests.support.readers import DECODER

NAMES = list(codings.ALL)


def assert_comes_back(name: str, labels: np.ndarray, leaf: Leaf) -> bytes:
    """The law, for the library and for the decoder of the standard library."""
    coding = codings.ALL[name]
    body = coding.encode(labels, leaf)
    assert coding.encode(labels, leaf) == body
    back = codings.decode(name, body, leaf)
    assert back.dtype == leaf.dtype
    assert back.tolist() == labels.tolist()
    assert read_slowly(name, body, leaf) == labels.tolist()
    measured, back = coding.measure(body, leaf)
    assert back.tolist() == labels.tolist()
    parts_of_body = measured[: measured._fields.index("ideal")]
    assert sum(parts_of_body) == 8 * len(body)
    assert min(parts_of_body) >= 0
    return body


def read_slowly(name: str, body: bytes, leaf: Leaf) -> list[int]:
    """Labels, by the decoder of the standard library."""
    read = {
        "packed": DECODER.packed,
        "relative": DECODER.relative,
        "order0": DECODER.order0,
        "grouped": DECODER.grouped,
    }
    above = leaf.entries - leaf.negatives
    end, labels = read[name](body, leaf.shape, [-1.0] * leaf.negatives + [1.0] * above)
    DECODER.need(end == len(body), "L1")
    DECODER.need(all(label <= leaf.entries for label in labels), "L4")
    return labels


# ---- the law ------------------------------------------------------------------------


@pytest.mark.spec("L15")
@pytest.mark.parametrize("name", NAMES)
@given(strategies.labeled())
def test_labels_come_back(name: str, given: tuple[np.ndarray, Leaf]):
    labels, leaf = given
    if codings.ALL[name].applies(leaf):
        assert_comes_back(name, labels, leaf)


@pytest.mark.spec("L15")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("label", [0, 1, 2])
@pytest.mark.parametrize("shape", [(), (1,), (70_000,), (1, 1, 1, 1), (300, 1)])
def test_labels_all_alike_come_back(name: str, label: int, shape: tuple[int, ...]):
    assert_comes_back(
        name, np.full(math.prod(shape), label, np.uint8), Leaf(shape, 2, 1)
    )


@pytest.mark.spec("L15")
@pytest.mark.parametrize("name", ["relative", "grouped"])
def test_a_weight_far_from_all_others_comes_back(name: str):
    labels = np.zeros(3_000_000, np.uint8)
    labels[:500] = labels[-1] = 1
    body = codings.ALL[name].encode(labels, Leaf(labels.shape, 1, 0))
    back = codings.decode(name, body, Leaf(labels.shape, 1, 0))
    assert np.array_equal(back, labels)
    assert len(body) < 6000


@pytest.mark.spec("L15")
@pytest.mark.parametrize("seed", range(3))
def test_many_axes_have_a_bounded_number_of_groups(seed: int):
    """All axes of a tensor of eight may want a dozen of classes."""
    shape = (4,) * 8
    rng = np.random.default_rng(seed)
    odds = sum(
        rng.normal(scale=2, size=[4 if a == b else 1 for a in range(8)])
        for b in range(8)
    )
    labels = (rng.logistic(loc=6, size=shape) < odds).astype(np.uint8).ravel()
    classes = group_search.classes(labels, shape)
    most = sum(int(own.max()) for own in classes if own is not None)
    assert 0 < most < grouping.MAX_GROUPS
    assert_comes_back("grouped", labels, Leaf(shape, 1, 0))


@pytest.mark.spec("L16")
@given(strategies.labeled())
def test_the_body_that_is_chosen_is_a_small_one(given: tuple[np.ndarray, Leaf]):
    labels, leaf = given
    name, body = codings.encode(labels, leaf)
    assert codings.decode(name, body, leaf).tolist() == labels.tolist()
    for other in ("packed", "grouped"):
        if codings.ALL[other].applies(leaf):
            assert len(body) <= len(codings.ALL[other].encode(labels, leaf))


@pytest.mark.parametrize(
    ("name", "entries", "density"),
    [("packed", 3, 1.0), ("order0", 6, 0.7), ("grouped", 300, 0.1)],
)
def test_each_coding_is_the_smallest_of_some_labels(
    name: str, entries: int, density: float
):
    rng = np.random.default_rng(0)
    size = 40 if name == "packed" else 20_000
    labels = rng.geometric(0.2, size).clip(1, entries) * (rng.random(size) < density)
    leaf = Leaf((size,), entries, 0)
    assert codings.encode(labels.astype(leaf.dtype), leaf)[0] == name


@given(strategies.labeled(), st.integers(1, 16))
def test_the_gaps_of_the_paper(given: tuple[np.ndarray, Leaf], gap_bits: int):
    labels, leaf = given
    name, body = codings.encode(labels, leaf, "relative", gap_bits)
    assert name == "relative"
    assert relative.fixed_width(body) == gap_bits
    assert codings.decode("relative", body, leaf).tolist() == labels.tolist()


@pytest.mark.spec("L5")
def test_the_papers_gaps_have_no_low_bits():
    labels = np.zeros(5000, np.uint8)
    labels[[7, 4999]] = 1
    body = relative.encode(labels, 5)
    assert (body[0], body[1]) == (5, 0)
    assert relative.fixed_width(body) == 5
    assert relative.fixed_width(relative.encode(labels)) is None


@pytest.mark.spec("L17")
@pytest.mark.parametrize(("name", "most"), [("order0", 1023), ("grouped", 1024)])
def test_a_codebook_that_is_too_large(name: str, most: int):
    for entries, fits in ((most, True), (most + 1, False)):
        leaf = Leaf((4,), entries, 0)
        assert codings.ALL[name].applies(leaf) == fits
    with pytest.raises(ValueError, match=f"the {name} coding cannot hold a codebook"):
        codings.encode(np.ones(4, np.uint16), Leaf((4,), most + 1, 0), name)
    # What has no room for all symbols would share out less than nothing.
    for entries in (most + 1, 4096, 2**15):
        with pytest.raises(FormatError, match="L17"):
            codings.decode(name, bytes(10**5), Leaf((4,), entries, 0))


# ---- models -------------------------------------------------------------------------


@pytest.mark.spec("E1", "L12", "L13")
@given(st.lists(st.integers(0, 63), min_size=1, max_size=1024).filter(any))
def test_frequencies_add_up(codes: list[int]):
    (found,) = symbol_models.frequencies(np.array([codes], np.uint8))
    assert found.sum() == 4096
    assert ((found > 0) == (np.array(codes) > 0)).all()
    assert codes[int(found.argmax())] == max(codes)


@pytest.mark.spec("E1", "L14")
@given(st.integers(1, 1024).flatmap(lambda k: st.tuples(st.just(k), st.integers(0, k))))
def test_falling_frequencies_add_up(sizes: tuple[int, int]):
    entries, negatives = sizes
    before = 0.0
    for code in range(1, 65):
        found = symbol_models.falling(code, entries, negatives).astype(int)
        assert found.sum() == 4096
        assert found.min() > 0
        below, above = found[:negatives][::-1], found[negatives:]
        for side in (below, above):
            # What rounding leaves over makes the greatest greater still.
            assert (np.diff(side) <= 0).all()
        distance = np.append(np.arange(below.size)[::-1], np.arange(above.size))
        mean = float(found @ distance)
        assert mean >= 0.99 * before - 1
        before = mean


@pytest.mark.spec("E1", "L11")
@given(
    st.integers(1, 2**40).flatmap(
        lambda size: st.tuples(st.just(size), st.integers(1, size))
    )
)
def test_frequencies_of_gaps_add_up(sizes: tuple[int, int]):
    size, gaps = sizes
    found = symbol_models.gap_frequencies(size, gaps)
    assert found.size == 33
    assert found.sum() == 4096
    assert found.min() > 0
    low_bits = symbol_models.low_bits(size, gaps)
    # A unit is at most a quarter of a mean gap, and more than an eighth if it can be.
    assert 4 * gaps << low_bits <= size or low_bits == 0
    assert size < 8 * gaps << low_bits


@pytest.mark.parametrize("density_of", [0.001, 0.03, 0.3, 0.6])
def test_gaps_at_random_take_the_entropy_of_the_mask(density_of: float):
    rng = np.random.default_rng(1)
    labels = (rng.random(100_000) < density_of).astype(np.uint8)
    leaf = Leaf((100_000,), 1, 0)
    body = codings.encode(labels, leaf, "grouped")[1]
    p = labels.mean()
    entropy = -100_000 * (p * math.log2(p) + (1 - p) * math.log2(1 - p))
    assert codings.ALL["grouped"].measure(body, leaf)[0].ideal <= 1.005 * entropy + 20
    assert 8 * len(body) <= 1.01 * entropy + 200


def test_rows_and_columns_of_unequal_density_make_a_smaller_body():
    rng = np.random.default_rng(0)
    scale = rng.lognormal(0, 1, (200, 1)) * rng.lognormal(0, 1, 300)
    kept = rng.laplace(size=(200, 300)) * scale
    labels = np.where(np.abs(kept) > np.quantile(np.abs(kept), 0.9), 1, 0)
    leaf = Leaf(labels.shape, 1, 0)
    flat = labels.ravel().astype(np.uint8)
    body = codings.encode(flat, leaf, "grouped")[1]
    shuffled = rng.permutation(flat)
    assert len(body) < 0.8 * len(codings.encode(shuffled, leaf, "grouped")[1])
    assert codings.ALL["grouped"].measure(body, leaf)[0].classes > 0


def test_quantized_counts_keep_what_is_used():
    codes = symbol_models.quantize(np.array([0, 1, 2, 4, 2**40]))
    assert codes.tolist() == [0, 1, 1, 1, 63]
    assert symbol_models.quantize(np.array([4, 2, 1, 0])).tolist() == [63, 59, 55, 0]
    assert symbol_models.quantize(np.zeros(3, int)).tolist() == [0, 0, 0]


# ---- groups -------------------------------------------------------------------------


@st.composite
def grouped(draw: st.DrawFn) -> tuple[tuple[int, ...], grouping.Classes]:
    """A shape and classes of some of its axes."""
    shape = tuple(draw(st.lists(st.integers(1, 7), max_size=4)))
    classes: list[np.ndarray | None] = []
    for size in shape:
        own = st.lists(st.integers(0, 9), min_size=size, max_size=size)
        drawn = draw(st.none() | own)
        classes.append(None if drawn is None else np.array(drawn, np.uint8))
    return shape, tuple(classes)


@given(grouped(), st.data())
def test_groups_split_and_join(
    drawn: tuple[tuple[int, ...], grouping.Classes], data: st.DataObject
):
    shape, classes = drawn
    found = grouping.groups(shape, classes)
    kept = data.draw(st.sets(st.integers(0, math.prod(shape) - 1)))
    positions = np.array(sorted(kept), np.int64)
    member, ranks, order = grouping.split(positions, found)
    # By hand: the members of each group in C order.
    of_axes = [
        np.zeros(size, int) if own is None else own.astype(int)
        for size, own in zip(shape, classes, strict=True)
    ]
    sums = np.zeros(shape, int)
    for axis, own in enumerate(of_axes):
        sums += own.reshape([-1 if a == axis else 1 for a in range(len(shape))])
    places = [np.flatnonzero(sums.ravel() == g) for g in range(found.sizes.size)]
    assert found.sizes.tolist() == [own.size for own in places]
    expected = [
        (group, rank)
        for group, own in enumerate(places)
        for rank, place in enumerate(own.tolist())
        if place in kept
    ]
    assert list(zip(member.tolist(), ranks.tolist(), strict=True)) == expected
    assert np.array_equal(grouping.members(positions, found)[order], member)
    for group, part in grouping.parts(np.bincount(member, minlength=found.sizes.size)):
        back = grouping.locator(found, group)(ranks[part])
        assert np.array_equal(back, positions[order][part])


# ---- damage -------------------------------------------------------------------------


def outcome(name: str, body: bytes, leaf: Leaf, *, slow: bool) -> object:
    """What a reader makes of a body: labels, or the clause that it breaks."""
    try:
        if slow:
            return read_slowly(name, body, leaf)
        return codings.decode(name, body, leaf).tolist()
    except FormatError as error:
        assert 0 <= error.offset <= len(body)
        return error.clause
    except DECODER.Broken as error:
        return str(error)


@pytest.mark.spec("L1", "L2", "L3", "L4", "L5", "L6", "L7", "L8", "L9", "L10")
@pytest.mark.parametrize("name", NAMES)
@given(strategies.labeled(), st.data())
def test_damaged_bodies_are_read_alike(
    name: str, given: tuple[np.ndarray, Leaf], data: st.DataObject
):
    labels, leaf = given
    coding = codings.ALL[name]
    body = coding.encode(labels, leaf) if coding.applies(leaf) else bytes(40)
    for _ in range(4):
        code = bytearray(body + data.draw(st.just(b"") | st.binary(max_size=4)))
        for _ in range(data.draw(st.integers(0, 3)) if code else 0):
            at = data.draw(st.integers(0, min(len(code) - 1, 40)))
            code[at] ^= data.draw(st.integers(1, 255))
        size = data.draw(st.just(len(code)) | st.integers(0, len(code)))
        found = [outcome(name, bytes(code[:size]), leaf, slow=s) for s in (False, True)]
        assert found[0] == found[1]


@pytest.mark.parametrize("name", NAMES)
@given(st.binary(max_size=40), strategies.labeled())
def test_noise_is_read_alike(name: str, data: bytes, given: tuple[np.ndarray, Leaf]):
    leaf = given[1]
    assert outcome(name, data, leaf, slow=False) == outcome(name, data, leaf, slow=True)


@pytest.mark.spec("L1")
@pytest.mark.parametrize("name", NAMES)
@given(strategies.labeled())
def test_truncated_bodies_are_rejected(name: str, given: tuple[np.ndarray, Leaf]):
    labels, leaf = given
    coding = codings.ALL[name]
    body = coding.encode(labels, leaf) if coding.applies(leaf) else b""
    if body:
        laws.assert_prefixes_rejected(
            lambda data, _: (len(data), codings.decode(name, data, leaf)), body, most=40
        )


def test_words_that_no_body_needs_are_rejected():
    """A stream of many lanes for a few labels, the rest of which is not at its end."""
    codes, stream = parts.order0([0, 1, 1], 1, lanes=30)
    leaf = Leaf((3,), 1, 0)
    good = codes + stream
    assert codings.decode("order0", good, leaf).tolist() == [0, 1, 1]
    with pytest.raises(FormatError, match="E8"):
        codings.decode("order0", good[:-1] + b"\1", leaf)


@pytest.mark.parametrize("shape", [(10**8,), (10**4, 10**4), (10**8, 1)])
def test_a_few_bytes_take_no_more_memory_than_their_labels(shape: tuple[int, ...]):
    tracemalloc.start()
    labels = codings.decode("grouped", b"\0\0", Leaf(shape, 3, 0))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < labels.nbytes + 10**5


@pytest.mark.parametrize(
    ("name", "density"),
    [
        *(("relative", 0.05), ("relative", 0.3), ("grouped", 0.05), ("grouped", 0.6)),
        *(("order0", 0.3), ("order0", 1.0), ("packed", 1.0)),
    ],
)
def test_decoding_takes_little_more_memory_than_its_result(name: str, density: float):
    rng = np.random.default_rng(0)
    size = 1 << 20
    labels = np.where(rng.random(size) < density, rng.integers(1, 17, size), 0)
    labels = labels.astype(np.uint8)
    leaf = Leaf((1024, 1024), 16, 8)
    body = codings.ALL[name].encode(labels, leaf)
    lookup = np.arange(17, dtype=np.float32)
    tracemalloc.start()
    values = codings.decode(name, body, leaf, lookup)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(values.ravel(), labels)
    assert peak < 2.5 * values.nbytes


def test_prices_are_those_of_the_models():
    """Of weights that are kept at random, and whose entries are any."""
    rng = np.random.default_rng(0)
    labels = (rng.random(4000) < 0.2) * rng.geometric(0.4, 4000).clip(1, 6)
    counts = np.bincount(labels, minlength=7)
    total = counts @ codings.label_prices(counts)
    body = codings.ALL["grouped"].encode(labels.astype(np.uint8), Leaf((4000,), 6, 3))
    assert abs(total - 8 * len(body)) < 0.05 * total


def test_prices_are_those_of_the_models_of_groups():
    """Of weights that are kept by row and column, and larger where more are kept."""
    rng = np.random.default_rng(0)
    density = np.repeat([0.02, 0.1, 0.5], 40)[:, None] * np.repeat([1.0, 0.3], 60)
    kept = rng.random(density.shape) < density
    size = np.where(density > 0.2, 3, 1) * rng.geometric(0.5, density.shape)
    labels = (kept * size.clip(1, 6)).astype(np.uint8).ravel()
    leaf = Leaf(density.shape, 6, 0)
    found = codings.group_prices(labels, leaf)
    assert found is not None
    total = found.bits[found.group, labels].sum()
    body = codings.ALL["grouped"].encode(labels, leaf)
    one = np.bincount(labels, minlength=7)
    assert total < 0.9 * (one @ codings.label_prices(one))
    # Classes are in the body too, half a bit or so for each index.
    assert total < 8 * len(body) < 1.03 * total + 400
    shuffled = rng.permutation(labels)
    assert codings.group_prices(shuffled, leaf) is None
