"""Sums for kernels of convolutions are those over patches, cut out one by one."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import deepcomp_jax as dc
from tests.support import sums

R = sums.random(2)
LETTERS = "DHW"


def convolved(x, kernel, options):
    """A convolution in the layout of Flax: channels last."""
    space = LETTERS[-(x.ndim - 2) :]
    numbers = f"N{space}C", f"{space}IO", f"N{space}C"
    return lax.conv_general_dilated(x, kernel, dimension_numbers=numbers, **options)


def pairs(*lists):
    return zip(*lists, strict=True)


def by_patches(x, kernel, see, options):
    """The same as products of patches and a matrix, in loops."""
    *window, channels, outputs = kernel.shape
    d = len(window)
    strides = options["window_strides"]
    groups = options.get("feature_group_count", 1)
    inside = options.get("lhs_dilation", (1,) * d)
    dilation = options.get("rhs_dilation", (1,) * d)
    around = [
        (low, high, i - 1) for (low, high), i in pairs(options["padding"], inside)
    ]
    spread = lax.pad(jnp.asarray(x), 0.0, [(0, 0, 0), *around, (0, 0, 0)])
    lengths = [(k - 1) * e + 1 for k, e in pairs(window, dilation)]
    places = [
        (n - k) // s + 1 for n, k, s in pairs(spread.shape[1:-1], lengths, strides)
    ]
    patches = []
    for place in itertools.product(*map(range, places)):
        cut = tuple(
            slice(p * s, p * s + k, e)
            for p, s, k, e in pairs(place, strides, lengths, dilation)
        )
        patches.append(spread[(slice(None), *cut)])
    x = jnp.stack(patches, axis=1)
    each = outputs // groups
    made = []
    for output in range(outputs if groups > 1 else 1):
        first = output // each * channels
        part = x[..., first : first + channels] if groups > 1 else x
        part = part.reshape(*x.shape[:2], -1)
        own = kernel[..., output, None] if groups > 1 else kernel
        y = part @ own.reshape(part.shape[-1], -1)
        made.append(see(("k", 0, (output,) if groups > 1 else ()), part, y))
    return jnp.concatenate(made, axis=-1).reshape(len(x), *places, outputs)


def case(shape, kernel, strides, padding, **options):
    return shape, kernel, {"window_strides": strides, "padding": padding, **options}


CASES = {
    "one axis": case((2, 7, 3), (3, 3, 4), (1,), [(1, 1)]),
    "causal": case((2, 7, 3), (3, 3, 4), (1,), [(4, 0)], rhs_dilation=(2,)),
    "strided": case((2, 9, 2), (4, 2, 3), (3,), [(0, 2)]),
    "two axes": case((2, 5, 4, 3), (3, 2, 3, 4), (1, 1), [(1, 1), (0, 1)]),
    "uneven strides": case((2, 6, 5, 2), (3, 3, 2, 3), (2, 1), [(1, 0), (1, 1)]),
    "dilated": case(
        (1, 7, 7, 2), (2, 3, 2, 3), (1, 2), [(0, 0), (2, 2)], rhs_dilation=(3, 2)
    ),
    "transposed": case(
        (1, 3, 4, 2), (3, 3, 2, 3), (1, 1), [(2, 2), (1, 2)], lhs_dilation=(2, 3)
    ),
    "cropped": case((2, 7, 3), (3, 3, 4), (1,), [(-1, -2)]),
    "three axes": case(
        (1, 4, 3, 4, 2), (2, 2, 3, 2, 3), (1, 1, 2), [(0, 1), (0, 0), (1, 1)]
    ),
    "grouped": case(
        (2, 5, 4, 4), (3, 2, 2, 6), (1, 1), [(1, 1), (0, 1)], feature_group_count=2
    ),
    "depthwise": case((2, 7, 4), (3, 1, 4), (1,), [(1, 1)], feature_group_count=4),
    "depthwise of several": case(
        (2, 7, 2), (3, 1, 6), (2,), [(1, 1)], feature_group_count=2
    ),
    "pointwise": case((2, 3, 3, 4), (1, 1, 4, 5), (1, 1), [(0, 0), (0, 0)]),
}


@pytest.mark.parametrize("name", CASES)
def test_patches(monkeypatch, name):
    shape, kernel, options = CASES[name]

    def fn(p, x):
        return convolved(x, p["k"], options)

    def ref(p, x, see):
        return by_patches(x, p["k"], see, options)

    found = sums.check(monkeypatch, fn, ref, {"k": R(*kernel)}, R(*shape))
    assert found.notes == ()
    (use,) = found.leaves["k"]
    last = len(kernel) - 1
    assert use.inputs == tuple(range(last))
    grouped = "feature_group_count" in options
    assert (use.batch, use.outputs) == (((last,), ()) if grouped else ((), (last,)))


@pytest.mark.parametrize(
    ("spec", "inputs", "order"),
    [
        (("NCHW", "OIHW", "NCHW"), (1, 2, 3), (3, 2, 0, 1)),
        (("CHWN", "IHWO", "HWNC"), (0, 1, 2), (2, 0, 1, 3)),
        (("NWHC", "WIHO", "NHWC"), (0, 1, 2), (1, 0, 2, 3)),
    ],
)
def test_other_orders_of_axes(monkeypatch, spec, inputs, order):
    """Inputs are in the order of the leaf, whatever that of the window is."""
    sizes = {"N": 2, "C": 3, "H": 5, "W": 4}
    kernel_sizes = {"H": 2, "W": 3, "I": 3, "O": 4}
    x = R(*(sizes[letter] for letter in spec[0]))
    kernel = R(*(kernel_sizes[letter] for letter in spec[1]))

    def fn(p, x):
        return lax.conv_general_dilated(
            x, p["k"], (1, 1), "VALID", dimension_numbers=spec
        )

    def ref(p, x, see):
        nhwc = x.transpose(*(spec[0].index(letter) for letter in "NHWC"))
        hwio = p["k"].transpose(*(spec[1].index(letter) for letter in "HWIO"))
        own = [letter for letter in spec[1] if letter != "O"]

        def seen(key, part, y):
            rows = part.reshape(-1, 2, 3, 3)
            axes = [1 + "HWI".index(letter) for letter in own]
            return see(key, rows.transpose(0, *axes).reshape(len(rows), -1), y)

        options = {"window_strides": (1, 1), "padding": [(0, 0), (0, 0)]}
        y = by_patches(nhwc, hwio, seen, options)
        return y.transpose(*("NHWC".index(letter) for letter in spec[2]))

    found = sums.check(monkeypatch, fn, ref, {"k": kernel}, x)
    assert found.leaves["k"][0].inputs == inputs
    assert len(order) == 4


def test_a_flipped_kernel_of_a_transposed_convolution(monkeypatch):
    def fn(p, x):
        numbers = ("NHC", "HIO", "NHC")
        return lax.conv_transpose(
            x, p["k"], (2,), "SAME", dimension_numbers=numbers, transpose_kernel=True
        )

    def ref(p, x, see):
        kernel = jnp.flip(p["k"], 0).transpose(0, 2, 1)

        def seen(key, part, y):
            rows = part.reshape(-1, 3, 3)[:, ::-1]
            return see(key, rows.reshape(len(rows), -1), y)

        options = {"window_strides": (1,), "padding": [(2, 1)], "lhs_dilation": (2,)}
        return by_patches(x, kernel, seen, options)

    found = sums.check(monkeypatch, fn, ref, {"k": R(3, 4, 3)}, R(2, 5, 3))
    assert found.notes == ()
    assert found.leaves["k"][0][1:4] == ((), (0, 2), (1,))


def test_a_kernel_in_the_place_of_the_data_is_noted():
    def fn(p, x):
        return lax.conv_general_dilated(p["k"], x, (1,), "VALID")

    found = dc.calibrate(fn, {"k": R(2, 3, 7)}, [R(4, 3, 2)])
    assert found.notes == ("k: not followed: conv_general_dilated of another form",)
    assert np.isfinite(found.sensitivity["k"])
