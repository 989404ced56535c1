"""Leaves of all kinds on steps: what errors cost, and what stays."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import deepcomp_jax as dc
from deepcomp_jax import budget, feedback
from deepcomp_jax._types import DenseLeaf, SharedLeaf
from deepcomp_jax.calibration import Calibration
from deepcomp_jax.format import container

Fn = Callable[[Any, Any], jax.Array]

DAMPING = 0.3


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def correlated(count: int, size: int, seed: int = 1) -> np.ndarray:
    """Inputs of a quarter as many dimensions, and noise."""
    mixed = draw(count, 1 + size // 4, seed=seed) @ draw(1 + size // 4, size, seed=9)
    return mixed + 0.3 * draw(count, size, seed=seed + 1)


def rounded(
    params: Any, found: Calibration, rd_lambda: float, *names: str
) -> tuple[dict[str, np.ndarray], feedback.Prepared]:
    """Values of leaves on their steps, by name; all leaves by default."""
    prepared = feedback.prepare(params, found, names or params, damping=DAMPING)
    values = {}
    for name, (leaf, book) in feedback.quantize(prepared, rd_lambda).items():
        books = () if book is None else (book,)
        values[name] = container.values(leaf, books)
        assert values[name].dtype == params[name].dtype
        assert values[name].shape == params[name].shape
    return values, prepared


def metric(moments: np.ndarray, damping: float) -> np.ndarray:
    """Moments [n, n] or [n] over their mean, damped, as a matrix."""
    pairs = np.diag(moments) if moments.ndim == 1 else moments
    pairs = pairs.astype(np.float64)
    return pairs / np.diagonal(pairs).mean() + damping * np.eye(len(pairs))


# ---- what errors cost ---------------------------------------------------------------


def dense(params: Any, x: jax.Array) -> jax.Array:
    return jnp.tanh(x @ params["w"])


def convolution(params: Any, x: jax.Array) -> jax.Array:
    images = x.reshape(-1, 4, 4, 3)
    return jax.lax.conv_general_dilated(
        images, params["w"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def experts(params: Any, x: jax.Array) -> jax.Array:
    return jnp.tanh(jnp.einsum("bi,eio->ebo", x, params["w"]))


def stack(params: Any, x: jax.Array) -> jax.Array:
    def layer(x: jax.Array, w: jax.Array) -> tuple[jax.Array, None]:
        return jnp.tanh(x @ w), None

    return jax.lax.scan(layer, x, params["w"])[0]


def heads(params: Any, x: jax.Array) -> jax.Array:
    return jnp.tanh(jnp.einsum("bi,ihd->bhd", x, params["w"]))


@pytest.mark.parametrize(
    ("fn", "shape"),
    [
        (dense, (48, 70)),
        (convolution, (3, 3, 3, 60)),
        (experts, (3, 48, 70)),
        (stack, (3, 48, 48)),
        (heads, (48, 4, 17)),
    ],
    ids=lambda given: getattr(given, "__name__", ""),
)
def test_all_weights_pay_the_same_price(fn: Fn, shape: tuple[int, ...]):
    """Where the last bit costs as much as it is worth, an error costs lambda / (2 ln 2)
    a weight, whatever leaf it is in: that is importance * step^2 / 12."""
    params = {"w": draw(*shape) / 7}
    found = dc.calibrate(fn, params, [correlated(200, 48)])
    (use,) = found.leaves["w"]
    price = 1e-4 * float(found.sensitivity["w"].sum()) / params["w"].size
    values, _ = rounded(params, found, price)
    errors = (values["w"] - params["w"]).astype(np.float64)
    moved = errors.transpose(*use.batch, *use.outputs, *use.inputs)
    count = math.prod(shape[axis] for axis in use.batch)
    m = math.prod(shape[axis] for axis in use.outputs)
    moved = moved.reshape(count, m, -1)
    a = use.input_moments.reshape(count, *use.input_moments.shape[len(use.batch) :])
    g = use.output_moments.reshape(count, *use.output_moments.shape[len(use.batch) :])
    importance = dc.calibration.floored(found, params)["w"]
    for i, each in enumerate(np.broadcast_to(importance, count)):
        cost = each * np.trace(
            metric(g[i], DAMPING / 2) @ moved[i] @ metric(a[i], DAMPING) @ moved[i].T
        )
        expected = moved[i].size * price / (2 * math.log(2))
        assert cost == pytest.approx(expected, rel=0.15)


def lookup(params: Any, tokens: jax.Array) -> jax.Array:
    return jnp.tanh(params["table"][tokens] @ params["w"])


def test_rows_of_a_table_count_the_same():
    """How often they were looked up says nothing of other data; columns are damped by
    half of what inputs are."""
    params = {"table": draw(90, 40), "w": draw(40, 30) / 6}
    tokens = np.random.default_rng(0).integers(0, 12, (40, 5))  # most are never seen
    found = dc.calibrate(lookup, params, [tokens])
    (use,) = found.leaves["table"]
    price = 1e-3 * float(found.sensitivity["table"]) / params["table"].size
    errors = rounded(params, found, price)[0]["table"] - params["table"]
    costs = errors @ metric(use.output_moments, DAMPING / 2) * errors
    importance = dc.calibration.floored(found, params)["table"]
    assert importance * costs.sum() == pytest.approx(
        errors.size * price / (2 * math.log(2)), rel=0.1
    )
    seen = np.isin(np.arange(90), tokens)
    assert costs[seen].mean() == pytest.approx(costs[~seen].mean(), rel=0.3)


def tied(params: Any, tokens: jax.Array) -> jax.Array:
    return jnp.tanh(params["table"][tokens].mean(1)) @ params["table"].T


def test_both_uses_of_a_tied_table_count():
    params = {"table": draw(50, 24) / 5}
    tokens = np.random.default_rng(0).integers(0, 50, (64, 4))
    found = dc.calibrate(tied, params, [tokens])
    product, table = sorted(found.leaves["table"], key=lambda use: use.kind)
    assert (product.kind, table.kind) == ("product", "table")
    price = 1e-3 * float(found.sensitivity["table"]) / params["table"].size
    values, prepared = rounded(params, found, price)
    own = prepared.matrices["table"]
    assert own.shape == (1, 50, 24)
    # Columns are inputs of the product, and what the look-ups give.
    both = sum(
        moments / np.diagonal(moments).mean()
        for moments in (product.input_moments, table.output_moments)
    )
    rows, columns = own.sides[0]
    assert rows.unit is None and columns.unit is not None
    factor = columns.unit * np.sqrt(columns.weights)
    expected = metric(both, DAMPING)[np.ix_(columns.order, columns.order)]
    np.testing.assert_allclose(factor @ factor.T, expected, atol=1e-4)
    assert np.abs(values["table"] - params["table"]).max() > 0


@pytest.mark.parametrize(
    ("fn", "shape"),
    [(dense, (48, 70)), (experts, (3, 48, 70)), (stack, (3, 48, 48))],
)
@pytest.mark.parametrize("step", [0.05, 0.3])
def test_on_given_steps_outputs_change_less_than_by_the_nearest(
    fn: Fn, shape: tuple[int, ...], step: float
):
    x = correlated(600, 48)
    params = {"w": draw(*shape) / 7}
    prepared = feedback.prepare(params, dc.calibrate(fn, params, [x[:300]]), params)
    values = feedback.on_steps(prepared, {"w": step})["w"]
    assert (values.dtype, values.shape) == (np.float32, shape)
    np.testing.assert_allclose(values / step, np.rint(values / step), atol=1e-4)

    def error(own: np.ndarray) -> float:
        unseen = x[300:]
        return float(jnp.square(fn({"w": own}, unseen) - fn(params, unseen)).mean())

    nearest = step * np.rint(params["w"] / step)
    assert error(values) < 0.7 * error(nearest)


def test_equal_leaves_may_have_steps_of_their_own():
    params = {
        "first": draw(20, 30),
        "copy": draw(20, 30),
        "other": draw(30, 20, seed=1),
    }

    def fn(params: Any, x: jax.Array) -> jax.Array:
        return x @ params["first"] + (x @ params["copy"]) ** 2

    found = dc.calibrate(fn, params, [draw(50, 20)])
    prepared = feedback.prepare(params, found, ["first", "copy"])
    steps = {"first": 0.25, "copy": 0.5}
    values = feedback.on_steps(prepared, steps)
    assert values.keys() == steps.keys()
    for name, step in steps.items():
        np.testing.assert_array_equal(values[name] % step, 0)
        assert np.abs(values[name] - params[name]).mean() < step


# ---- what stays ---------------------------------------------------------------------


def layers(params: Any, x: jax.Array) -> jax.Array:
    hidden = x @ params["w"] + params["bias"][None]
    return jnp.tanh(hidden * params["scale"][None]) @ params["small"]


def network() -> dict[str, np.ndarray]:
    return {
        "w": draw(12, 40) / 3,
        "bias": draw(40, seed=1),
        "scale": 1 + draw(40, seed=2) / 10,
        "small": draw(40, 2, seed=3),
        "tiny": draw(4, 4, seed=4),
    }


def with_tiny(params: Any, x: jax.Array) -> jax.Array:
    return jnp.concatenate([layers(params, x), x[:, :4] @ params["tiny"]], 1)


def test_vectors_keep_eight_bits_and_tiny_leaves_all():
    params = network()
    params["bias"][0] = 101.9  # the largest, which would be rounded to 102
    params["bias"][1:3] = 0, 1e-20
    found = dc.calibrate(with_tiny, params, [draw(60, 12)])
    values, prepared = rounded(params, found, 1e-2)
    assert prepared.matrices.keys() == {"w", "small"}
    assert values["bias"][0] == 101.5
    for name in ("bias", "scale"):
        errors = np.abs(values[name] - params[name])
        largest = np.abs(params[name]).argmax()
        errors[largest] /= 2  # which is cut off
        assert (errors <= np.abs(params[name]) * 2**-8).all()
        assert np.abs(values[name]).max() <= np.abs(params[name]).max()
        assert (values[name] != params[name]).mean() > 0.9
        short = values[name].astype(ml_dtypes.bfloat16).astype(np.float32)
        np.testing.assert_array_equal(short, values[name])
    np.testing.assert_array_equal(values["tiny"], params["tiny"])


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32])
def test_the_largest_number_stays_finite(dtype: Any):
    params = {"bias": np.linspace(-1, 1, 40).astype(dtype)}
    found = dc.calibrate(
        lambda p, x: x * p["bias"][None].astype("f4"), params, [draw(9, 40)]
    )
    params["bias"][3] = most = -ml_dtypes.finfo(dtype).max
    value = rounded(params, found, 1e-2)[0]["bias"][3]
    assert most <= value < 0.99 * float(most)


def test_a_leaf_of_zeros():
    params = network() | {"w": np.zeros((12, 40), np.float32)}
    found = dc.calibrate(layers, params, [draw(60, 12)])
    prepared = feedback.prepare(params, found, ["w"])
    ((leaf, book),) = feedback.quantize(prepared, 1e-2).values()
    assert isinstance(leaf, DenseLeaf) and book is None
    assert leaf.values.shape == (12, 40) and not leaf.values.any()
    assert feedback.bits(prepared, 1e-2) < 8 * 12 * 40


def test_a_price_at_which_nothing_is_left():
    params = network()
    found = dc.calibrate(layers, params, [draw(60, 12)])
    values, _ = rounded(params, found, 1e9, "w")
    assert not values["w"].any()


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_leaves_that_are_not_finite_are_named(wrong: float):
    params = network()
    found = dc.calibrate(layers, params, [draw(60, 12)])
    params["w"][3, 4] = wrong
    with pytest.raises(ValueError, match=r"'w' holds NaN or infinity: repair it, or"):
        feedback.prepare(params, found, ["bias", "w"])
    feedback.prepare(params, found, ["bias", "small"])


@pytest.mark.parametrize("size", [1e-9, 1e9])
def test_weights_far_from_one(size: float):
    """Exponents reach 16 octaves from 1, and are counted from a power of two."""

    def fn(params: Any, x: jax.Array) -> jax.Array:
        return jnp.tanh(x @ params["w"] / size)

    weights = draw(24, 30) / 4
    sized = {"w": (weights * size).astype(np.float32)}
    found = dc.calibrate(fn, sized, [correlated(60, 24)])
    price = 1e-3 * float(found.sensitivity["w"]) * size**2 / weights.size
    values = rounded(sized, found, price)[0]["w"] / size
    plain = dc.calibrate(dense, {"w": weights}, [correlated(60, 24)])
    expected = rounded({"w": weights}, plain, price)[0]["w"]
    errors = [np.square(own - weights).mean() for own in (values, expected)]
    assert errors[0] == pytest.approx(errors[1], rel=0.1)
    assert 0 < errors[0] < 0.1 * np.square(weights).mean()


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_narrow_leaves(dtype: Any):
    params = {"w": draw(24, 30).astype(dtype)}

    def fn(params: Any, x: jax.Array) -> jax.Array:
        return jnp.tanh(x @ params["w"].astype(jnp.float32))

    found = dc.calibrate(fn, params, [correlated(60, 24)])
    wide = {"w": params["w"].astype(np.float32)}
    price = 1e-3 * float(found.sensitivity["w"]) / wide["w"].size
    values = rounded(params, found, price)[0]["w"].astype(np.float32)
    expected = rounded(wide, found, price)[0]["w"]
    np.testing.assert_allclose(values, expected, rtol=float(ml_dtypes.finfo(dtype).eps))


def test_an_outlier():
    """Steps are those of all other weights as long as a codebook can have them."""
    params = {"w": draw(40, 50) / 6}
    found = dc.calibrate(dense, params, [correlated(60, 40)])
    price = 1e-3 * float(found.sensitivity["w"]) / params["w"].size
    params["w"][7, 8] = 1e4 * np.abs(params["w"]).max()
    prepared = feedback.prepare(params, found, ["w"])
    for each in (price, 1e-12 * price):
        ((leaf, book),) = feedback.quantize(prepared, each).values()
        assert isinstance(leaf, SharedLeaf) and book is not None
        assert book.size < 2000
        values = container.values(leaf, (book,))
        errors = np.abs(values - params["w"])
        assert errors[7, 8] < 1e-3 * params["w"][7, 8]
    ((leaf, book),) = feedback.quantize(prepared, price).values()
    assert len(np.unique(container.values(leaf, (book,)))) > 2


def test_a_column_that_matters_far_more_than_others():
    """Its steps are fine, but not finer than a codebook can have them."""
    params = {"w": draw(4000, 16)}

    def fn(params: Any, x: jax.Array) -> jax.Array:
        return (x @ params["w"]) * jnp.array([[1e3] + 15 * [1.0]])

    found = dc.calibrate(fn, params, [draw(60, 4000)])
    price = 1e-3 * float(found.sensitivity["w"]) / params["w"].size
    coarse = rounded(params, found, price)[0]["w"] - params["w"]
    assert 10 * np.abs(coarse[:, 0]).max() < np.abs(coarse[:, 1:]).max()
    finest = budget.point(params, rd_lambda=1e-12 * price, calibration=found)
    errors = np.abs(dc.decompress(finest.compressed)["w"] - params["w"])
    largest = np.abs(params["w"]).max()
    assert errors.max() < largest / 1000
    assert errors[:, 0].max() < largest / 4000


def test_leaves_that_could_not_be_followed_are_rounded_to_the_nearest():
    params = {"kernel": draw(24, 30) / 4}

    def fn(params: Any, x: jax.Array) -> jax.Array:
        return jnp.tanh(x @ jnp.sin(params["kernel"]))

    found = dc.calibrate(fn, params, [correlated(60, 24)])
    assert "kernel" not in found.leaves
    price = 1e-3 * float(found.sensitivity["kernel"]) / params["kernel"].size
    errors = rounded(params, found, price)[0]["kernel"] - params["kernel"]
    importance = float(found.sensitivity["kernel"]) / errors.size
    step = math.sqrt(6 * price / (math.log(2) * importance))
    assert np.abs(errors).max() <= step / 2 * 2 ** (1 / 16) * (1 + 1e-5)
    assert np.square(errors).mean() == pytest.approx(step**2 / 12, rel=0.15)


def test_bits_are_about_those_of_the_file():
    params = {"w": draw(200, 300) / 14}
    found = dc.calibrate(dense, params, [correlated(300, 200)])
    prepared = feedback.prepare(params, found, ["w"])
    for relative in (1e-5, 2e-4):
        price = relative * float(found.sensitivity["w"]) / params["w"].size
        point = dc.budget.point(params, rd_lambda=price, calibration=found)
        assert feedback.bits(prepared, price) == pytest.approx(
            8 * point.file_bytes, rel=0.1
        )


def depthwise(params: Any, x: jax.Array) -> jax.Array:
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, params["w"], (1, 1), "SAME", dimension_numbers=layout, feature_group_count=8
    )


def test_channels_of_a_depthwise_convolution_share_the_steps_of_columns():
    params = {"w": draw(3, 3, 1, 8) * np.linspace(0.1, 3, 8, dtype=np.float32)}
    images = draw(4, 6, 6, 8) * np.linspace(2, 0.2, 8, dtype=np.float32)
    found = dc.calibrate(depthwise, params, [images])
    leaf, _ = feedback.quantize(
        feedback.prepare(params, found, params, damping=DAMPING), 1.0
    )["w"]
    assert isinstance(leaf, SharedLeaf) and leaf.scales is not None
    assert (leaf.scales.first.size, leaf.scales.last.size) == (9, 8)
    values, _ = rounded(params, found, 0.01)
    outputs = [depthwise(own, images) for own in (params, values)]
    assert np.std(outputs[1] - outputs[0]) < 0.05 * np.std(outputs[0])


def test_equal_leaves_stay_equal():
    table = draw(30, 8)
    params = {"head": table, "table": table.copy(), "w": draw(8, 8)}

    def fn(params: Any, ids: jax.Array) -> jax.Array:
        x = jnp.tanh(jnp.asarray(params["table"])[ids] @ params["w"])
        return x @ params["head"].T

    found = dc.calibrate(fn, params, [np.arange(30).reshape(3, 10)])
    values, prepared = rounded(params, found, 0.05)
    assert (values["head"] == values["table"]).all()
    assert (values["head"] != table).any()
    # Both uses count: the columns have moments of what comes out and of what goes in.
    alone, _ = rounded(params, found, 0.05, "head")
    assert (alone["head"] != values["head"]).any()
    assert dict(prepared.copies) == {"table": "head"}
