"""Random programs with random zeros: whatever is cut, the proof holds.

Verification would leave a group whose proof is wrong, with a note; there must be none.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepcomp_jax import shrink
from tests.shrink.networks import Params, along

KINDS = (
    "dense", "dense", "biased", "function", "add", "multiply", "concatenate", "slice",
    "heads", "affine", "low rank", "gate", "maximum", "center",
)  # fmt: skip
FUNCTIONS = (jnp.tanh, jnp.cos, jax.nn.relu, jnp.abs, jax.nn.gelu)


class Step(NamedTuple):
    """An operation on values that were computed before.

    Attributes:
        kind: One of `KINDS`.
        names: Those of the weights that it reads.
        first: Which value it reads.
        number: Another value, a function, or a place.
    """

    kind: str
    names: list[str]
    first: int
    number: int


def weights(random: np.random.Generator, *shape: int) -> np.ndarray:
    """Normal ones, of which whole rows and columns and some alone may be zero."""
    found = random.standard_normal(shape).astype(np.float32)
    for axis, size in enumerate(shape):
        if random.random() < 0.6:
            np.moveaxis(found, axis, 0)[random.random(size) < 0.35] = 0
    if len(shape) > 1 and random.random() < 0.4:
        found[random.random(shape) < 0.5] = 0
    return found


def program(seed: int) -> tuple[list[Step], Params]:
    """Draws operations, the weights that they read, and a last product."""
    random = np.random.default_rng(seed)
    params: Params = {}
    steps: list[Step] = []
    widths = [4]
    for i in range(random.integers(3, 9)):
        kind, first = str(random.choice(KINDS)), int(random.integers(len(widths)))
        width, new = widths[first], int(random.integers(2, 7))
        if width % 2 and kind in ("heads", "maximum"):
            continue
        number, result = {
            "function": (int(random.integers(len(FUNCTIONS))), width),
            "slice": (min(2, width - 1), max(1, width - 2)),
            "dense": (0, new),
            "biased": (0, new),
            "heads": (0, 6),
            "maximum": (0, width // 2),
        }.get(kind, (0, width))
        if kind in ("add", "multiply"):
            number = int(random.choice(np.flatnonzero(np.array(widths) == width)))
        if kind == "concatenate":
            number = int(random.integers(len(widths)))
            result += widths[number]
        shapes = _shapes(kind, width, new)
        names = [f"{i}.{j}" for j in range(len(shapes))]
        for name, shape in zip(names, shapes, strict=True):
            params[name] = weights(random, *shape)
        steps.append(Step(kind, names, first, number))
        widths.append(result)
    params["last"] = weights(random, widths[-1], 3)
    return steps, params


def _shapes(kind: str, width: int, new: int) -> list[tuple[int, ...]]:
    """Of the weights that an operation reads."""
    shapes: dict[str, list[tuple[int, ...]]] = {
        "dense": [(width, new)],
        "biased": [(width, new), (new,)],
        "heads": [(width // 2, 3)],
        "affine": [(width,), (width,)],
        "low rank": [(width, 3), (3, width)],
        "gate": [(width, width)],
    }
    return shapes.get(kind, [])


def run(steps: list[Step], params: Params, x: jax.Array) -> jax.Array:
    """Runs a program on `[batch, 4]`."""
    values = [x]
    for kind, names, first, number in steps:
        own: list[Any] = [params[name] for name in names]
        values.append(_step(kind, own, values[first], values, number))
    return values[-1] @ params["last"]


def _step(
    kind: str, own: list[Any], x: jax.Array, values: list[jax.Array], number: int
) -> jax.Array:
    halves = x.reshape(x.shape[0], 2, -1) if kind in ("heads", "maximum") else x
    return {
        "dense": lambda: x @ own[0],
        "biased": lambda: x @ own[0] + jnp.broadcast_to(own[1], (len(x), own[1].size)),
        "function": lambda: FUNCTIONS[number](x),
        "add": lambda: x + values[number],
        "multiply": lambda: x * values[number],
        "concatenate": lambda: jnp.concatenate([x, values[number]], -1),
        "slice": lambda: x[:, number:],
        "heads": lambda: (halves @ own[0]).reshape(x.shape[0], -1),
        "affine": lambda: x * along(own[0], x) + along(own[1], x),
        "low rank": lambda: x @ (own[0] @ own[1]),
        "gate": lambda: x * jax.nn.sigmoid(x @ own[0]),
        "maximum": lambda: halves.max(1),
        "center": lambda: x - x.mean(-1, keepdims=True),
    }[kind]()


@pytest.mark.parametrize("seed", range(12))
def test_random_programs(seed: int):
    steps, params = program(seed)

    def fn(params: Params, x: jax.Array) -> jax.Array:
        return run(steps, params, x)

    check(fn, params)


def check(fn: Callable[..., jax.Array], params: Params) -> None:
    """The restored network answers as the original does, and no proof was wrong."""
    smaller = shrink.exact(fn, params, jax.ShapeDtypeStruct((3, 4), jnp.float32))
    assert not [note for note in smaller.notes if "answers otherwise" in note.text]
    x = jax.random.normal(jax.random.key(5), (6, 4))
    wanted = fn(params, x)
    answer = fn(smaller.restore(smaller.params), x)
    scale = max(1.0, float(jnp.abs(wanted).max()))
    np.testing.assert_allclose(answer, wanted, rtol=0, atol=1e-4 * scale)


def test_the_programs_have_units_to_cut():
    cut = 0
    for seed in range(4):
        steps, params = program(seed)

        def fn(params: Params, x: jax.Array, steps: list[Step] = steps) -> jax.Array:
            return run(steps, params, x)

        smaller = shrink.exact(fn, params, jax.ShapeDtypeStruct((3, 4), jnp.float32))
        cut += sum(before - after for before, after in smaller.widths.values())
    assert cut > 8
