"""The order0 coding: the label of every weight by rANS, all with one model.

    body = frequencies | rANS stream of one segment, the labels

Format notes:

- Frequencies: 6 bits for each label from 0 to the number of entries.
"""

import numpy as np

from deepcomp_jax._errors import FormatError
from deepcomp_jax.codings import common, symbol_models
from deepcomp_jax.codings.common import (
    Coding,
    Counts,
    Labels,
    Leaf,
    Measured,
    Plan,
    Take,
)
from deepcomp_jax.streams import rans

MAX_ENTRIES = symbol_models.MAX_SYMBOLS - 1  # a label is an entry or zero


def _least(labels: Labels, leaf: Leaf, counts: Counts) -> float:
    del labels, leaf  # the counts tell everything
    table = rans.models(symbol_models.frequencies(symbol_models.quantize(counts)[None]))
    words = rans.estimate(counts[None], table)
    return words + rans.overhead(words) + symbol_models.CODE_BITS * counts.size


def _plan(labels: Labels, leaf: Leaf, counts: Counts) -> Plan:
    def write(put: rans.Put) -> bytes:
        codes = symbol_models.quantize(counts)
        table = rans.models(symbol_models.frequencies(codes[None]))
        one = np.broadcast_to(np.uint8(0), labels.size)
        segment = rans.Segment(labels, table, one, counts[None])
        return symbol_models.put(codes) + rans.encode([segment], put=put)

    return Plan(_least(labels, leaf, counts), write)


def _decode(data: bytes, leaf: Leaf, lookup: np.ndarray, take: Take) -> np.ndarray:
    start, table = get_model(data, leaf)
    end, state = rans.begin(data, start)
    check_states(state, table, start)
    one = np.broadcast_to(np.uint8(0), leaf.size)
    state, values = take(state, table, one, lookup)
    rans.finish(state)
    common.check_end(data, end)
    return values


def get_model(data: bytes, leaf: Leaf) -> tuple[int, rans.Models]:
    """Where the stream of a body begins, and its model.

    Raises:
        FormatError: L1 to L3, L17.
    """
    common.check_entries(leaf, MAX_ENTRIES)
    start, codes = symbol_models.get(data, 0, leaf.entries + 1)
    return start, rans.models(symbol_models.frequencies(codes[None]))


def check_states(state: rans.State, table: rans.Models, pos: int) -> None:
    """Rejects a stream that says nothing, though its table has several labels.

    Args:
        state: Where the decoder begins.
        table: The model.
        pos: Where the stream begins.

    Raises:
        FormatError: L21.
    """
    if rans.find_certain(table) is None and not state.lanes.any():
        raise FormatError(
            "all states are 0, so that all labels are one", offset=pos, clause="L21"
        )


def _measure(data: bytes, leaf: Leaf) -> tuple[Measured, Labels]:
    labels = _decode(data, leaf, common.labels_of(leaf), rans.take)
    start, table = get_model(data, leaf)
    _, state = rans.begin(data, start)
    words = 16 * int(state.ends[-1])
    tables = symbol_models.CODE_BITS * (leaf.entries + 1)
    measured = Measured(
        indices=words,
        tables=tables,
        lanes=8 * (len(data) - start) - words,
        padding=-tables % 8,
        ideal=rans.estimate(common.counts(labels, leaf)[None], table),
    )
    return measured, labels


CODING = Coding(MAX_ENTRIES, _least, _plan, _decode, _measure)
