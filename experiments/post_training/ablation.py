"""Our method without one of its parts: what each is worth."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeAlias

import numpy as np

import deepcomp_jax as dc
from deepcomp_jax import budget, feedback
from deepcomp_jax.budget.calibrated import Calibrated
from deepcomp_jax.budget.looks import Looks
from deepcomp_jax.budget.search import file_within
from deepcomp_jax.calibration import Calibration
from deepcomp_jax.feedback import Prepared
from deepcomp_jax.feedback.matrices import Matrices
from deepcomp_jax.feedback.metric import Side
from experiments.post_training.baselines import Coded
from experiments.post_training.methods import Method, bytes_of, exactly, file_of
from experiments.post_training.networks import Network

Change: TypeAlias = Callable[[Prepared], Prepared]
_Known: TypeAlias = dict[tuple[str, str], Calibration]

_DATA = ("real+random",)
_SETTINGS = ("0.65 bits", "0.85 bits", "2.33 bits", "2.68 bits")


def methods() -> dict[str, Method]:
    """The variants by name; the statistics of a network are made once for all."""
    known: _Known = {}
    changes: dict[str, tuple[Change, float | None]] = {
        "all parts": (lambda prepared: prepared, None),
        "no feedback": (partial(_sides, rows=_without, columns=_without), None),
        "feedback of columns alone": (partial(_sides, rows=_without), None),
        "feedback of rows alone": (partial(_sides, columns=_without), None),
        "one step a leaf": (partial(_sides, rows=_evenly, columns=_evenly), None),
        "the same relative step for all leaves": (_relative, None),
        "damping 0.05": (lambda prepared: prepared, 0.05),
        "damping 1": (lambda prepared: prepared, 1.0),
    }
    found = {
        name: Method(_DATA, _SETTINGS, partial(_points, known, change, damping))
        for name, (change, damping) in changes.items()
    }
    by_rate = Method(_DATA, _SETTINGS, partial(_by_rate, known))
    return found | {"labels by rate and distortion, no feedback": by_rate}


def _points(
    known: _Known,
    change: Change,
    damping: float | None,
    network: Network,
    data: str,
    settings: Sequence[str],
) -> Iterator[Coded]:
    prepared = _prepared(known, network, data, damping)
    looks = Looks(Calibrated(network.params, change(prepared)))
    for setting in settings:
        yield file_of(setting, file_within(looks, bytes_of(setting, network)).data)


def _prepared(
    known: _Known, network: Network, data: str, damping: float | None = None
) -> Prepared:
    key = network.name, data
    if key not in known:
        batches = network.calibration(data)
        known[key] = dc.calibrate(network.fn, network.params, batches)
    params = network.params
    return feedback.prepare(params, known[key], list(params), damping=damping)


def _by_rate(
    known: _Known, network: Network, data: str, settings: Sequence[str]
) -> Iterator[Coded]:
    """A grid for each leaf; what a bit is worth more than an error becomes smaller."""
    prepared = _prepared(known, network, data)
    importance: dict[str, np.ndarray] = {}
    for name, own in prepared.matrices.items():
        costs = np.empty(own.shape, np.float32)
        for i, (rows, columns) in enumerate(own.sides):
            of_both = rows.weights[:, None] * columns.weights * own.importance[i]
            costs[i][np.ix_(rows.order, columns.order)] = of_both
        importance[name] = own.unstack(costs, network.params[name].shape)
    rules = [dc.Rule(exactly(name)) for name in importance]
    given = {
        name: importance.get(name, np.ones_like(leaf))
        for name, leaf in network.params.items()
    }
    for setting in settings:
        most = bytes_of(setting, network)
        found = budget.within_bytes(network.params, most, rules, importance=given)
        yield file_of(setting, found.data)


def _same(side: Side) -> Side:
    return side


def _without(side: Side) -> Side:
    """A side whose errors do not go on."""
    return side._replace(unit=None)


def _evenly(side: Side) -> Side:
    """A side that all has the same step."""
    middle = np.exp(np.log(side.weights).mean())
    return side._replace(weights=np.full_like(side.weights, middle))


def _sides(
    prepared: Prepared,
    rows: Callable[[Side], Side] = _same,
    columns: Callable[[Side], Side] = _same,
) -> Prepared:
    changed: dict[str, Matrices] = {}
    for name, own in prepared.matrices.items():
        sides = tuple((rows(first), columns(last)) for first, last in own.sides)
        changed[name] = own._replace(sides=sides)
    return prepared._replace(matrices=changed)


def _relative(prepared: Prepared) -> Prepared:
    """Steps in units of the root mean square of each leaf."""
    changed: dict[str, Matrices] = {}
    for name, own in prepared.matrices.items():
        weights = prepared.leaves[name]
        each = 1 / max(float(np.square(weights, dtype=np.float64).mean()), 1e-30)
        changed[name] = own._replace(importance=np.full_like(own.importance, each))
    return prepared._replace(matrices=changed)
