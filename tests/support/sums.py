"""The sums of a calibration by hand: a network that shows its products, and gradients.

A reference is a function `ref(params, batch, see)` that calls `y = see(key, x, y)` with
all inputs `x[..., n]` of a product and its results `y[..., m]`. A key is the leaf,
which of its uses it is, and the index of the batch axes.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import deepcomp_jax as dc
from deepcomp_jax import trees
from deepcomp_jax.calibration import gradients

Key = tuple[str, int, tuple[int, ...]]


def known_signs(outputs: Any, key: Any = None) -> jax.Array:
    """A product of outputs with numbers that a test knows, in place of random signs."""
    total = jnp.float32(0)
    for position, output in enumerate(outputs):
        if jnp.issubdtype(output.dtype, jnp.floating):
            numbers = jnp.cos(jnp.arange(output.size) * 1.7 + position)
            total += jnp.sum(output.astype(jnp.float32).ravel() * numbers)
    return total


def by_hand(
    ref: Callable[..., Any], params: Any, batch: Any
) -> dict[Key, tuple[np.ndarray, np.ndarray, int]]:
    """`sum x x^T`, `sum g g^T` and the number of x, of each product."""
    inputs: dict[Key, list[np.ndarray]] = defaultdict(list)
    zeros: dict[str, np.ndarray] = {}

    def shown(key: Key, x: Any, y: Any) -> Any:
        zeros[f"{key}{len(inputs[key])}"] = jnp.zeros(y.shape)
        x = np.asarray(x, np.float64)
        inputs[key].append(x.reshape(-1, x.shape[-1]))
        return y

    ref(params, batch, shown)

    def scalar(shifts: dict[str, Any]) -> jax.Array:
        counts: dict[Key, int] = defaultdict(int)

        def shifted(key: Key, x: Any, y: Any) -> Any:
            counts[key] += 1
            return y + shifts[f"{key}{counts[key] - 1}"].astype(y.dtype)

        return known_signs(jax.tree.leaves(ref(params, batch, shifted)))

    grads = jax.grad(scalar)(zeros)
    found = {}
    for key, xs in inputs.items():
        gs = [np.asarray(grads[f"{key}{i}"], np.float64) for i in range(len(xs))]
        gs = [g.reshape(-1, g.shape[-1]) for g in gs]
        a, g = (sum(v.T @ v for v in values) for values in (xs, gs))
        found[key] = a, g, sum(len(x) for x in xs)
    return found


def check(
    monkeypatch: pytest.MonkeyPatch,
    fn: Callable[..., Any],
    ref: Callable[..., Any],
    params: Any,
    batch: Any,
    tolerance: float = 2e-4,
    **options: Any,
) -> dc.calibration.Calibration:
    """Calibrates a function and compares all sums with those by hand."""
    monkeypatch.setattr(gradients, "projected", known_signs)
    same = ref(params, batch, lambda key, x, y: y)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance),
        fn(params, batch), same,
    )  # fmt: skip
    found = dc.calibrate(fn, params, [batch, batch], **options)
    want = by_hand(ref, params, batch)
    seen: dict[tuple[str, int], set[tuple[int, ...]]] = defaultdict(set)
    for (leaf, which, index), (a, g, count) in want.items():
        use = found.leaves[leaf][which]
        seen[leaf, which].add(index)
        # The same batch came twice.
        close(use.input_moments[index], 2 * a, tolerance)
        close(use.output_moments[index], 2 * g, tolerance)
        assert use.count >= 2 * count
    uses = {(leaf, i) for leaf, all_ in found.leaves.items() for i in range(len(all_))}
    assert uses == set(seen)
    for (leaf, which), indices in seen.items():
        shape = found.leaves[leaf][which].input_moments.shape
        batch_axes = len(found.leaves[leaf][which].batch)
        assert indices == set(np.ndindex(shape[:batch_axes]))
    check_sensitivity(found, fn, params, batch, tolerance)
    return found


def close(found: np.ndarray, want: np.ndarray, tolerance: float) -> None:
    if found.ndim < want.ndim:
        want = np.diagonal(want)
    assert found.shape == want.shape
    scale = np.abs(want).max() + 1e-30
    np.testing.assert_allclose(found / scale, want / scale, atol=tolerance)


def check_sensitivity(
    found: dc.calibration.Calibration, fn: Any, params: Any, batch: Any, tol: float
) -> None:
    grads = jax.grad(lambda p: known_signs(jax.tree.leaves(fn(p, batch))))(params)
    for name, grad in trees.named_leaves(grads).items():
        value = found.sensitivity[name]
        axes = tuple(range(value.ndim, grad.ndim))
        want = 2 * np.sum(np.square(np.asarray(grad, np.float64)), axis=axes)
        np.testing.assert_allclose(value, want, rtol=max(1e-3, tol), atol=1e-6)


def random(seed: int = 0) -> Callable[..., np.ndarray]:
    """Draws arrays of normal numbers in float32."""
    rng = np.random.default_rng(seed)
    return lambda *shape: rng.normal(size=shape).astype(np.float32)


def plain(ref: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    """The network itself, of which nothing is shown."""
    return lambda params, batch: ref(params, batch, lambda key, x, y: y)


def seen_dense(
    leaf: str, see: Any, x: Any, w: Any, index: tuple[int, ...] = (), use: int = 0
) -> Any:
    """A product that is shown, of `x[..., n]` and a matrix."""
    return see((leaf, use, index), x, x @ w)
