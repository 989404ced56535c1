"""For a linear function of a leaf the sums give the square of any change of it.

The function is a chain of random rearrangements and one product. Its outputs are
changed by a change D of the leaf by as much as the sums say: each output by
`D_o^T A D_o`, as often as it is there, which G knows.
"""

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import deepcomp_jax as dc
from deepcomp_jax.calibration import gradients


def transposed(rng, w):
    order = rng.permutation(w.ndim)
    return lambda w: w.transpose(*order)


def split(rng, w):
    axis = rng.integers(w.ndim)
    n = w.shape[axis]
    outer = rng.choice([d for d in range(1, n + 1) if n % d == 0])
    shape = (*w.shape[:axis], outer, n // outer, *w.shape[axis + 1 :])
    return lambda w: w.reshape(shape)


def joined(rng, w):
    axis = rng.integers(max(1, w.ndim - 1))
    shape = (*w.shape[:axis], -1, *w.shape[axis + 2 :])
    return lambda w: w.reshape(shape)


def sliced(rng, w):
    axis = rng.integers(w.ndim)
    n = w.shape[axis]
    start = rng.integers(n)
    stop = rng.integers(start, n) + 1
    step = rng.integers(1, 3)
    cut = (slice(None),) * axis + (slice(start, stop, step),)
    return lambda w: w[cut]


def reversed_(rng, w):
    axis = int(rng.integers(w.ndim))
    return lambda w: jnp.flip(w, axis)


def chosen(rng, w):
    axis = rng.integers(w.ndim)
    index = rng.integers(w.shape[axis])
    return lambda w: w[(slice(None),) * axis + (index,)]


def scaled(rng, w):
    scale = float(rng.normal())
    return lambda w: scale * w


def beside_others(rng, w):
    axis = int(rng.integers(w.ndim))
    other = np.ones(w.shape[:axis] + (2,) + w.shape[axis + 1 :], np.float32)
    return lambda w: jnp.concatenate([other, w, other], axis)


def repeated(rng, w):
    return lambda w: jnp.broadcast_to(w[None], (2, *w.shape))


STEPS = (
    *(transposed, split, joined, sliced, reversed_),
    *(chosen, scaled, beside_others, repeated),
)


def chain(rng, shape):
    """A random rearrangement of an array of some shape."""
    w, steps = np.zeros(shape, np.float32), []
    for _ in range(rng.integers(6)):
        make = STEPS[rng.integers(len(STEPS))]
        if w.ndim < 3 and make is chosen or w.ndim > 4 and make is split:
            continue
        step = make(rng, w)
        made = np.asarray(step(w))
        if 0 < made.size < 400:
            w, steps = made, [*steps, step]

    def rearranged(w):
        for step in steps:
            w = step(w)
        return w

    return rearranged, w.shape


def product(rng, shape):
    """A random product of data with an array of some shape, and the data."""
    letters = list("abcdefgh"[: len(shape)])
    roles = rng.choice(["batch", "inputs", "outputs"], len(shape), p=[0.2, 0.45, 0.35])
    if repeats := [i for i, role in enumerate(roles) if role == "outputs"]:
        roles[repeats[0]] = "outputs"
    own = [x for x, role in zip(letters, roles, strict=True) if role != "outputs"]
    order = rng.permutation(own)
    x = "".join(["r", *order])
    left = [x for x, role in zip(letters, roles, strict=True) if role != "inputs"]
    spec = f"{x},{''.join(letters)}->r{''.join(left)}"
    sizes = dict(zip(letters, shape, strict=True))
    data = rng.normal(size=(3, *(sizes[i] for i in order))).astype(np.float32)
    looped = bool(len(shape) > 1 and roles[0] == "batch" and rng.random() < 0.7)
    if not looped:
        return (lambda x, w: jnp.einsum(spec, x, w)), data
    first = letters[0]
    inner = spec.replace(first, "")
    axis = x.index(first)

    def scan(x, w):
        def step(carry, both):
            return carry, jnp.einsum(inner, *both)

        return lax.scan(step, 0, (jnp.moveaxis(x, axis, 0), w))[1]

    return scan, data


def predicted(use, change):
    """The squared change of the outputs that the sums tell."""
    order = *use.batch, *use.inputs, *use.outputs
    lengths = [change.shape[a] for a in use.batch]
    n = int(np.prod([change.shape[a] for a in use.inputs]))
    d = change.transpose(order).reshape(*lengths, n, -1).astype(np.float64)
    # Derivatives of the sum of all outputs are how often a result is among them.
    g = use.output_moments
    if g.ndim == len(lengths) + 2:
        g = np.diagonal(g, axis1=-2, axis2=-1)
    times = np.sqrt(g / use.count)
    a = use.input_moments
    return np.einsum("...no,...nk,...ko,...o->...", d, a, d, times).sum()


@pytest.mark.parametrize("start", range(0, 60, 12))
def test_squares_of_changes(monkeypatch, start):
    monkeypatch.setattr(
        gradients, "projected", lambda outputs, key: sum(map(jnp.sum, outputs))
    )
    followed = 0
    for seed in range(start, start + 12):
        rng = np.random.default_rng(seed)
        shape = tuple(rng.choice([2, 3, 4, 6], rng.integers(2, 5)))
        rearranged, made = chain(rng, shape)
        times, x = product(rng, made)

        def fn(p, x, times=times, rearranged=rearranged):
            return times(x, rearranged(p["w"]))

        w, change = rng.normal(size=(2, *shape)).astype(np.float32)
        found = dc.calibrate(fn, {"w": w}, [x])
        if found.notes:
            continue
        followed += 1
        moved = np.asarray(fn({"w": change}, x) - fn({"w": 0 * change}, x), np.float64)
        (use,) = found.leaves["w"]
        want = np.sum(moved**2)
        np.testing.assert_allclose(
            predicted(use, change), want, rtol=1e-3, err_msg=f"seed {seed}"
        )
    assert followed >= 4
