"""The compiled loop that codes rANS streams writes what the one in NumPy writes."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepcomp_jax import codings, device
from deepcomp_jax.device import rans_coding
from deepcomp_jax.streams import rans
from tests.support import strategies


def assert_alike(segments: list[rans.Segment], lanes: int) -> None:
    """Both loops write the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rans_coding, "WORTH_COMPILING", 0)
        patch.setattr(rans_coding, "WORTH_LOCK_STEP", 0)
        compiled = rans.encode(segments, lanes=lanes, put=rans_coding.put_on_cpu)
    assert compiled == rans.encode(segments, lanes=lanes)


def drawn(frequencies: list[int], size: int, *, rare: bool = False) -> rans.Segment:
    """Symbols as frequent as their model says, or all alike however rare."""
    rng = np.random.default_rng(size)
    shares = np.array(frequencies) / (1 if rare else rans.TOTAL)
    if rare:
        shares = (shares > 0) / np.count_nonzero(shares)
    symbols = rng.choice(len(frequencies), size, p=shares).astype(np.uint16)
    table = rans.models(np.array([frequencies]))
    return rans.Segment(symbols, table, np.zeros(size, np.uint8))


@pytest.mark.spec("E1", "E8")
@given(strategies.segments(), st.integers(1, 60))
def test_streams_are_the_same(segments: list[rans.Segment], lanes: int) -> None:
    assert_alike(segments, lanes)


@pytest.mark.parametrize("lanes", [1, 159, 160, 161, 545, 1056, 1057, 1300, 2113])
def test_slices_of_every_width(lanes: int) -> None:
    """Of several slices each has its own lanes, the last one few of them."""
    frequencies = [1, 2047, 1024, 512, 512]
    segments = [drawn(frequencies, 5 * lanes + 3), drawn([4095, 1], 7 * lanes - 1)]
    assert_alike(segments, lanes)


def test_more_steps_than_a_call_takes_and_words_than_a_buffer_holds() -> None:
    """The rarest of symbols give off a word of 12 bits of 16 at each step."""
    size = 3 * (4 * rans_coding._STEPS + 5) + 1
    assert_alike([drawn([1] * 4 + [4092], size, rare=True), drawn([1, 4095], size)], 3)


@pytest.mark.parametrize("frequency", [1, 2, 3, 5, 1365, 2048, 2049, 4094, 4095])
def test_divisions_are_exact_near_every_border(frequency: int) -> None:
    """Each lane comes by states of its own; the other symbol moves them about."""
    rng = np.random.default_rng(frequency)
    table = rans.models(np.array([[frequency, rans.TOTAL - frequency]]))
    symbols = (rng.random(200_000) < rng.random()).astype(np.uint8)
    assert_alike([rans.Segment(symbols, table, np.zeros_like(symbols))], 500)


def test_symbols_of_many_models() -> None:
    table = rans.models(np.full((63, 64), 64))
    rng = np.random.default_rng(0)
    symbols, chosen = rng.integers(0, (64, 63), (9000, 2)).T
    segment = rans.Segment(symbols.astype(np.uint8), table, chosen.astype(np.uint8))
    assert_alike([segment], 70)


def test_more_models_than_a_table_holds_are_left_to_the_host() -> None:
    table = rans.models(np.full((20, 1024), 4))
    rng = np.random.default_rng(0)
    symbols = rng.integers(0, 1024, 3000).astype(np.uint16)
    chosen = rng.integers(0, 20, 3000).astype(np.uint8)
    assert_alike([rans.Segment(symbols, table, chosen)], 30)


def test_all_streams_share_three_programs(
    monkeypatch: pytest.MonkeyPatch, compiled: Callable[[], int]
) -> None:
    monkeypatch.setattr(rans_coding, "WORTH_COMPILING", 0)
    for lanes in range(10, 3000, 170):
        segments = [drawn([2048, 2000, 48], lanes * 3), drawn([1, 4095], lanes + 7)]
        rans.encode(segments, lanes=lanes, put=rans_coding.put_on_cpu)
    assert compiled() == 3


@pytest.mark.usefixtures("even_few_lanes")
def test_threads_may_code_and_decode_at_the_same_time() -> None:
    rng = np.random.default_rng(0)
    leaf = codings.Leaf((60, 70), 7, 3)
    lookup = np.arange(8, dtype=np.float32)
    given = [rng.integers(0, 8, 4200).astype(np.uint8) for _ in range(24)]
    given += [own * (rng.random(4200) < 0.2) for own in given]
    alone = [codings.encode(own, leaf) for own in given]
    with ThreadPoolExecutor(8) as pool:
        bodies = list(
            pool.map(
                lambda own: codings.encode(own, leaf, put=device.put_on_cpu), given
            )
        )
        back = pool.map(
            lambda own: codings.decode(*own, leaf, lookup, device.take_on_cpu), bodies
        )
        values = [np.asarray(own).ravel() for own in back]
    assert bodies == alone
    np.testing.assert_array_equal(values, given)
