"""Values as planes of bytes: the law, their sizes, and what readers reject."""

import tracemalloc

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepcomp_jax import FormatError
from deepcomp_jax.device import rans_lanes
from deepcomp_jax.format import container, plane_words, planes
from deepcomp_jax.streams import rans
from tests.support import strategies
from tests.support.readers import DECODER

FLOATS = container.DTYPES[9:13]
ONE_BYTE = np.dtype(np.uint8)


def read_slowly(body: bytes, size: int, dtype: np.dtype) -> bytes:
    """The bytes of values, by the decoder of the standard library."""
    return DECODER.planes(body, size, dtype.name, dtype.itemsize)


def width(dtype: np.dtype) -> int:
    """Number of planes: bytes of a value, or of the half of a complex one."""
    return dtype.itemsize // (2 if dtype.kind == "c" else 1)


def assert_comes_back(values: np.ndarray) -> bytes:
    """The law, for the library and for the decoder of the standard library."""
    body = planes.put(values)
    assert planes.put(values) == body
    back = planes.get(body, values.size, values.dtype)
    assert (back.dtype, back.shape) == (values.dtype, values.shape)
    assert back.tobytes() == values.tobytes()
    assert back.flags.writeable
    assert read_slowly(body, values.size, values.dtype) == values.tobytes()
    assert len(body) <= values.nbytes + width(values.dtype)
    return body


# ---- the law ------------------------------------------------------------------------


@pytest.mark.spec("V2", "V10", "V11")
@given(strategies.plain_values())
def test_values_come_back_with_every_bit(values: np.ndarray):
    assert_comes_back(values)


@pytest.mark.spec("V2", "V10", "V11")
@pytest.mark.parametrize("dtype", container.DTYPES, ids=str)
def test_every_dtype_in_several_blocks(dtype: np.dtype):
    """Sixteen thousand values of one byte each are noise, others are all alike."""
    rng = np.random.default_rng(0)
    raw = rng.integers(0, 2 if dtype.kind == "b" else 256, (40_000, dtype.itemsize))
    raw[20_000:] = 1
    values = raw.astype(np.uint8).view(dtype).ravel()
    body = assert_comes_back(values)
    assert len(body) < 0.9 * values.nbytes


@pytest.mark.spec("V10")
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_every_value_of_16_bits_and_the_ends_of_others(dtype: np.dtype):
    """All NaNs, infinities, subnormal numbers and zeros of a type, with both signs."""
    low = np.arange(1 << 16, dtype=np.uint64)
    raw = low << np.uint64(8 * dtype.itemsize - 16) | low % np.uint64(3)
    assert_comes_back(raw.astype(f"u{dtype.itemsize}").view(dtype))


@pytest.mark.spec("V10")
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_loops_are_exchanged(dtype: np.dtype, even_few_lanes: None):
    """The loop that is compiled, and one that writes."""
    values = np.random.default_rng(0).normal(size=30_000).astype(dtype)
    given: list[int] = []

    def encode(segments: list[rans.Segment]) -> bytes:
        given.append(len(segments))
        return rans.encode(segments, lanes=100)

    body = planes.put(values, encode)
    assert given == [1]
    back = planes.get(body, values.size, values.dtype, rans_lanes.take_on_cpu)
    assert back.tobytes() == values.tobytes()


@given(strategies.plain_values())
def test_what_a_body_is_spent_on(values: np.ndarray):
    body = planes.put(values)
    measured = planes.measure(body, values)
    parts = measured[: measured._fields.index("ideal")]
    assert min(parts) >= 0
    stored = 8 * len(body) - sum(parts)
    assert stored % 8 == 0
    assert 0 <= stored <= 8 * values.nbytes
    # A lane holds 32 bits of its symbols; words have the rest.
    assert measured.indices <= measured.ideal * 1.01 + 1
    assert measured.ideal <= measured.indices + measured.lanes + 1
    estimate = planes.estimate(values)
    assert abs(estimate - 8 * len(body)) < 64 + 0.02 * estimate


# ---- sizes --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [(ml_dtypes.bfloat16, 10.6), (np.float16, 13.8), (np.float32, 26.6)],
)
def test_trained_weights_take_the_entropy_of_their_exponents(
    dtype: np.dtype, bits: float
):
    """2.55 bits for the exponents of a Gaussian, and a few hundredths."""
    weights = np.random.default_rng(0).normal(scale=0.02, size=200_000).astype(dtype)
    assert 8 * len(assert_comes_back(weights)) / weights.size < bits


def test_weights_that_were_narrower_take_no_more():
    rng = np.random.default_rng(0)
    weights = rng.normal(scale=0.02, size=50_000)
    for narrow in (ml_dtypes.bfloat16, np.float16):
        own = weights.astype(narrow)
        size = len(assert_comes_back(own))
        # Other bytes have the bits of the mantissa, and models a few hundredths each.
        for wide in (np.float32, np.float64):
            assert len(assert_comes_back(own.astype(wide))) < 1.03 * size


@pytest.mark.parametrize("dtype", container.DTYPES, ids=str)
def test_equal_values_take_two_bytes_a_plane_and_flags(dtype: np.dtype):
    for raw in (0, 1) if dtype.kind == "b" else (0, 1, 127, 255):
        values = np.full(40_000 * dtype.itemsize, raw, np.uint8).view(dtype)
        blocks = -(-values.nbytes // width(dtype) // plane_words.BLOCK)
        each = 2 + -(-blocks // 8)
        assert len(assert_comes_back(values)) == each * width(dtype)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64])
def test_small_integers_take_about_a_byte_and_a_sign(dtype: np.dtype):
    values = np.random.default_rng(0).integers(-128, 128, 30_000).astype(dtype)
    assert 8 * len(assert_comes_back(values)) / values.size < 8.2
    assert 8 * len(assert_comes_back(np.abs(values))) / values.size < 7.2


@pytest.mark.spec("V3")
def test_a_block_that_is_noise_is_stored():
    """Of four blocks, two are zeros: plane 0 is 01 00 and the flags 0101."""
    noise = np.random.default_rng(0).integers(0, 256, 4 * plane_words.BLOCK, np.uint8)
    values = noise.reshape(4, -1).copy()
    values[1::2] = 0
    body = assert_comes_back(values.ravel())
    assert body == bytes([1, 0, 0b0101_0000]) + values[::2].tobytes()


@pytest.mark.spec("V3")
def test_one_model_is_not_forced_on_all_blocks():
    """Five blocks of one byte each: the third part of 8 bits in one model of all."""
    values = np.repeat(np.arange(250, 255, dtype=np.uint8), plane_words.BLOCK)
    body = assert_comes_back(values)
    assert len(body) < 0.31 * values.size


# ---- damage -------------------------------------------------------------------------


def outcome(body: bytes, size: int, dtype: np.dtype) -> bytes | str:
    """What the library makes of a body: values, or the clause that is broken."""
    try:
        return planes.get(body, size, dtype).tobytes()
    except FormatError as error:
        assert 0 <= error.offset <= len(body)
        return error.clause


def outcome_slowly(body: bytes, size: int, dtype: np.dtype) -> bytes | str:
    try:
        return read_slowly(body, size, dtype)
    except DECODER.Broken as error:
        return str(error)


TWO = "02 05 ff b0"  # 5 and 6, with the codes 63 and 59
STREAM = "00 a8 7a 00 00"  # of 5 5 6 5 6


@pytest.mark.spec("V1", "V5", "V6", "V7", "V8", "V9")
@pytest.mark.parametrize(
    ("body", "size", "clause"),
    [
        ("", 5, "V5"),
        ("80", 5, "V5"),
        ("80 00", 5, "V5"),
        ("00", 5, "V1"),
        ("00 01 02 03 04", 5, "V1"),
        ("00 01 02 03 04 05 06", 5, "V1"),
        ("01", 5, "V1"),
        ("01 07 00", 5, "V1"),
        ("02 05 ff", 5, "V1"),
        (f"{TWO} {STREAM} 00", 5, "V1"),
        ("01 07", 16_385, "V1"),
        ("02 ff ff b0" + STREAM, 5, "V6"),
        ("81 02 00" + 192 * "ff", 5, "V6"),
        ("ff ff ff ff ff ff ff ff 7f 00", 5, "V6"),
        (f"02 05 03 b0 {STREAM}", 5, "V7"),
        (f"02 05 fc 00 {STREAM}", 5, "V7"),
        ("02 05 00 00 00", 5, "V7"),
        ("01 07 00", 16_385, "V8"),
        ("02 05 ff b0 00 00 00 00 00 00", 16_385, "V8"),
        (f"02 05 ff b1 {STREAM}", 5, "V9"),
        ("01 07 c1", 16_385, "V9"),
        (TWO, 5, "E2"),
        (f"{TWO} 00 a8 7a 00", 5, "E6"),
        (f"{TWO} {STREAM}", 4, "E8"),
    ],
)
def test_bodies_that_are_rejected(body: str, size: int, clause: str):
    data = bytes.fromhex(body)
    assert outcome(data, size, ONE_BYTE) == clause
    assert outcome_slowly(data, size, ONE_BYTE) == clause


@given(strategies.plain_values(), st.data())
def test_damaged_bodies_are_read_alike(values: np.ndarray, draw: st.DataObject):
    body = bytearray(planes.put(values))
    near = draw.draw(st.sampled_from([4, 40, len(body)]))
    for _ in range(draw.draw(st.integers(1, 3))):
        at = draw.draw(st.integers(0, min(near, len(body)) - 1))
        body[at] ^= 1 << draw.draw(st.integers(0, 7))
    where = bytes(body), values.size, values.dtype
    assert outcome(*where) == outcome_slowly(*where)


@given(st.binary(max_size=40), st.integers(1, 100), st.sampled_from(container.DTYPES))
def test_noise_is_read_alike(data: bytes, size: int, dtype: np.dtype):
    assert outcome(data, size, dtype) == outcome_slowly(data, size, dtype)


@pytest.mark.spec("V1")
@given(strategies.plain_values())
def test_truncated_bodies_are_rejected(values: np.ndarray):
    body = planes.put(values)
    for size in range(0, len(body), -(-len(body) // 100)):
        assert isinstance(outcome(body[:size], values.size, values.dtype), str)


@pytest.mark.parametrize("head", ["01 07 ff ff", "02 05 ff b0 ff ff 00 00 00 00 00"])
def test_a_few_bytes_take_no_more_memory_than_their_values(head: str):
    """Values of a byte, that byte once more, and one block; nothing if it is cut."""
    data, size = bytes.fromhex(head), 16 * plane_words.BLOCK
    tracemalloc.start()
    try:
        planes.get(data, size, ONE_BYTE)
        assert tracemalloc.get_traced_memory()[1] < 2 * size + 11 * (1 << 16) * 8
        tracemalloc.reset_peak()
        with pytest.raises(FormatError):
            planes.get(data[:-1], size, ONE_BYTE)
        assert tracemalloc.get_traced_memory()[1] < size
    finally:
        tracemalloc.stop()
