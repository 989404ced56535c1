"""rANS streams: round trips, the oracle, the size, and how they end."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepcomp_jax import FormatError, rans


def models(rng: np.random.Generator, count: int, alphabet: int) -> rans.Models:
    """Random models, some of whose symbols have no frequency."""
    weights = rng.random((count, alphabet)) ** 8
    weights[:, 0] += 0.01
    frequencies = np.floor(weights / weights.sum(axis=1, keepdims=True) * 4096)
    frequencies[:, 0] += 4096 - frequencies.sum(axis=1)
    return rans.models(frequencies.astype(np.int64))


def segment(rng: np.random.Generator, size: int) -> rans.Segment:
    """Symbols drawn from their models."""
    table = models(rng, int(rng.integers(1, 4)), int(rng.integers(1, 40)))
    chosen = rng.integers(0, len(table.frequencies), size).astype(np.uint8)
    lookup, _ = rans.tables(table)
    slots = chosen.astype(np.int64) * 4096 + rng.integers(0, 4096, size)
    return rans.Segment(lookup[slots], table, chosen)


seeds = st.integers(0, 2**32 - 1)
sizes = st.lists(st.integers(0, 300), max_size=4)


@pytest.mark.spec("E1", "E8")
@given(seeds, sizes, st.integers(1, 40) | st.none())
def test_symbols_come_back(seed: int, sizes: list[int], lanes: int | None):
    rng = np.random.default_rng(seed)
    segments = [segment(rng, size) for size in sizes] or [segment(rng, 0)]
    data = rans.encode(segments, lanes=lanes)
    end, state = rans.begin(b"ab" + data + b"c", 2)
    assert end == 2 + len(data)
    slow = state
    for part in segments:
        state, symbols = rans.take(state, part.models, part.chosen)
        slow, oracle = rans.take_slowly(slow, part.models, part.chosen)
        assert symbols.dtype == np.uint16
        assert symbols.tolist() == oracle.tolist() == part.symbols.tolist()
    rans.finish(state)
    rans.finish(slow)


@pytest.mark.parametrize("lanes", [1, 23, 24, 64])
def test_many_symbols_take_their_ideal_length(lanes: int):
    part = segment(np.random.default_rng(lanes), 20_000)
    size = 8 * len(rans.encode([part], lanes=lanes))
    assert rans.cost(part) <= size <= 1.002 * rans.cost(part) + 40 * lanes + 40


def test_lanes_are_chosen_so_that_they_cost_little():
    part = segment(np.random.default_rng(7), 200_000)
    data = rans.encode([part])
    _, state = rans.begin(data, 0)
    assert state.lanes.size >= 16
    assert 8 * len(data) <= 1.005 * rans.cost(part)


@pytest.mark.spec("E8")
@given(seeds, st.integers(1, 200), st.integers(1, 30))
def test_another_number_of_symbols_is_rejected(seed: int, size: int, lanes: int):
    part = segment(np.random.default_rng(seed), size)
    if rans.cost(part) < 1:
        return
    _, state = rans.begin(rans.encode([part], lanes=lanes), 0)
    # The last symbol that is not certain, and all after it, are left out.
    costs = part.models.frequencies[part.chosen, part.symbols] < 4096
    last = int(np.flatnonzero(costs)[-1])
    state, _ = rans.take(state, part.models, part.chosen[:last])
    with pytest.raises(FormatError, match="E8"):
        rans.finish(state)


@pytest.mark.spec("E1", "E8")
@given(seeds, st.binary(max_size=80))
def test_garbage_is_decoded_alike_by_both_and_never_fails(seed: int, garbage: bytes):
    part = segment(np.random.default_rng(seed), 50)
    lanes = seed % 30 + 1
    states = b"\0\0\1\0" * lanes + garbage + bytes(len(garbage) % 2)
    words = (len(garbage) + 1) // 2
    fields = np.zeros(lanes, np.uint64)
    fields[-1] = words
    index = bytes([lanes, 0]) + (
        bytes([8]) + fields.astype(np.uint8).tobytes() if lanes > 1 else b""
    )
    if lanes == 1:
        index = bytes([1, words])
    _, state = rans.begin(index + states, 0)
    _, fast = rans.take(state, part.models, part.chosen)
    _, slow = rans.take_slowly(state, part.models, part.chosen)
    assert fast.tolist() == slow.tolist()


@pytest.mark.spec("E2", "E3", "E4", "E5", "E6", "E7")
@pytest.mark.parametrize(
    ("data", "clause"),
    [
        ("81 00 00", "E2"),
        ("00 00", "E3"),
        ("02 00 00 00 00 01 00", "E3"),
        ("02 00 21" + "00 00 01 00" * 2, "E4"),
        ("02 00 01 20" + "00 00 01 00" * 2, "E5"),
        ("01 00", "E6"),
        ("01 01 00 00 01 00", "E6"),
        ("02 00 20 01" + "00 00 01 00" * 2, "E6"),
        ("01 00 ff ff 00 00", "E7"),
    ],
)
def test_lanes_that_are_broken(data: str, clause: str):
    with pytest.raises(FormatError) as caught:
        rans.begin(bytes.fromhex(data), 0)
    assert caught.value.clause == clause
