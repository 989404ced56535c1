"""Labels from tables (clauses S21, S22 and S28), against exact arithmetic."""

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given

from deepcomp_jax.share import nearest
from tests.support import strategies

# Few values are searched, many are looked up, very many in a finer table.
SIZES = [40, 1 << 14, (1 << 20) + 1]


def exact_labels(values: np.ndarray, codebook: np.ndarray) -> list[int]:
    entries = [Fraction(float(entry)) for entry in codebook]
    labels = []
    for value in values:
        distances = [abs(entry - Fraction(float(value))) for entry in entries]
        labels.append(distances.index(min(distances)) + 1 if value != 0 else 0)
    return labels


@pytest.mark.spec("S21", "S22", "S28")
@pytest.mark.parametrize("size", SIZES)
@given(strategies.beside_borders())
def test_labels_are_nearest(size: int, drawn: tuple[np.ndarray, np.ndarray]):
    values, codebook = drawn
    labels = nearest.labels(np.resize(values, size), codebook)
    assert labels.dtype == np.uint8
    expected = np.array(exact_labels(values, codebook), np.uint8)
    np.testing.assert_array_equal(labels, np.resize(expected, size))


@pytest.mark.spec("S22")
@pytest.mark.parametrize("size", SIZES)
def test_the_middle_of_far_neighbors_is_not_rounded(size: int):
    """0.5 is further from 1 than from -1e-30, by less than float64 tells."""
    codebook = np.array([-1e-30, 1.0], np.float32)
    labels = nearest.labels(np.full(size, 0.5, np.float32), codebook)
    assert (labels == 2).all()
    labels = nearest.labels(np.full(size, 0.5, np.float32), np.abs(codebook))
    assert (labels == 1).all()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_infinite_values_are_nearest_to_the_outermost_entries(size: int, dtype: str):
    limit = np.finfo(dtype).max
    codebook = np.array([-limit, -1.0, limit], dtype)
    values = np.array([-np.inf, -limit, 0, limit, np.inf], dtype)
    labels = nearest.labels(np.resize(values, size), codebook)
    np.testing.assert_array_equal(labels, np.resize([1, 1, 0, 3, 3], size))


@pytest.mark.parametrize("entries", [255, 256, 65_535])
@pytest.mark.parametrize("size", SIZES)
def test_every_entry_is_its_own_label(entries: int, size: int):
    codebook = np.arange(1, entries + 1).astype(np.float32)
    labels = nearest.labels(np.resize(codebook, size), codebook)
    assert labels.dtype == (np.uint8 if entries < 256 else np.uint16)
    np.testing.assert_array_equal(labels, np.resize(np.arange(1, entries + 1), size))


@pytest.mark.parametrize("entries", [2, 3, 4, 1000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_entries_that_differ_in_their_last_bits(dtype: type, entries: int):
    """All values share their first bits with all borders: of two entries, with one."""
    codebook = 1 + np.arange(entries).astype(dtype) * dtype(2**-20)
    values = np.random.default_rng(0).permutation(np.resize(codebook, 1 << 15))
    labels = nearest.labels(values, codebook)
    np.testing.assert_array_equal(codebook[labels - 1], values)


def test_values_in_any_layout_keep_their_places():
    values = np.arange(-512, 512, dtype=np.float32).reshape(16, 8, 8).transpose(2, 0, 1)
    codebook = np.array([-1.0, 1.0], np.float32)
    expected = np.where(values == 0, 0, 1 + (values > 0))
    np.testing.assert_array_equal(nearest.labels(values, codebook), expected)
    assert nearest.labels(values[:, :0], codebook).shape == (8, 0, 8)
    assert not nearest.labels(values, codebook[:0]).any()


def test_narrow_types_have_the_labels_of_their_values():
    """8-bit floats have no infinity, or no sign, or no zero; all are looked up."""
    for dtype in (ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2):
        every = np.arange(256, dtype=np.uint8).view(dtype)
        every = every[np.isfinite(every)]
        codebook = np.array([-2.0, 0.5, 3.0], dtype)
        expected = exact_labels(every, codebook)
        labels = nearest.labels(np.resize(every, 1 << 14), codebook)
        np.testing.assert_array_equal(labels, np.resize(expected, 1 << 14))
