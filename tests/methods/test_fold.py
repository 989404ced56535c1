"""BatchNorm folded for inference computes what it computed before (chapter B)."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

import deepcomp_jax as dc
from deepcomp_jax import fold, share, trees
from experiments.models.vgg import of_width
from tests.support import laws
from tests.support.small import Small

CONV_BIASES = [("conv(.*)", r"bn\1")]

# Largest difference over the largest output, for a whole network in float32. On a CPU
# the VGG19 reached 3e-6 over twenty seeds, the small networks 3e-7.
TOLERANCE = 2e-5


class SmallNnx(nnx.Module):
    """`Small`, in NNX and without dropout."""

    def __init__(self, rngs: nnx.Rngs):
        self.conv1 = nnx.Conv(3, 8, (3, 3), rngs=rngs)
        self.bn1 = nnx.BatchNorm(8, use_running_average=True, rngs=rngs)
        self.conv2 = nnx.Conv(8, 8, (3, 3), rngs=rngs)
        self.bn2 = nnx.BatchNorm(8, use_running_average=True, rngs=rngs)
        self.fc = nnx.Linear(8, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.relu(self.bn1(self.conv1(x)))
        x = nnx.relu(self.bn2(self.conv2(x)))
        return self.fc(x.mean((1, 2)))


def _trained(variables: Any, seed: int) -> Any:
    """Fills all leaves with values as after a training."""
    rng = np.random.default_rng(seed)
    draws: dict[str, Callable[[tuple[int, ...]], np.ndarray]] = {
        "mean": lambda shape: rng.normal(0, 1, shape),
        "var": lambda shape: rng.lognormal(0, 1, shape),
        "scale": lambda shape: rng.normal(1, 0.3, shape),
        "bias": lambda shape: rng.normal(0, 0.3, shape),
        "kernel": lambda shape: rng.normal(0, (2 / np.prod(shape[:-1])) ** 0.5, shape),
    }
    named = trees.named_leaves(variables)
    for name, leaf in named.items():
        values = draws[name.rpartition("/")[2]](leaf.shape)
        named[name] = jnp.array(values, jnp.float32)
    return trees.rebuild(variables, named)


def _images(batch: int, size: int) -> jax.Array:
    rng = np.random.default_rng(0)
    return jnp.array(rng.standard_normal((batch, size, size, 3)), jnp.float32)


def _linen(module: nn.Module, x: jax.Array) -> tuple[Any, Callable[[Any], jax.Array]]:
    with jax.numpy_rank_promotion("allow"):
        variables = jax.eval_shape(module.init, jax.random.key(0), x[:1])
    return variables, jax.jit(lambda variables: module.apply(variables, x))


def _nnx(pure: bool) -> tuple[Any, Callable[[Any], jax.Array]]:
    model = SmallNnx(nnx.Rngs(0))
    graph, state = nnx.split(model)
    x = _images(4, 8)

    def run(leaves: Any) -> jax.Array:
        filled = jax.tree.unflatten(jax.tree.structure(state), jax.tree.leaves(leaves))
        return nnx.merge(graph, filled)(x)

    return (nnx.to_pure_dict(state) if pure else state), jax.jit(run)


@functools.cache
def _network(name: str) -> tuple[Any, Callable[[Any], jax.Array]]:
    """Variables, and what maps variables to logits."""
    if name == "vgg19":
        return _linen(of_width(1 / 8), _images(8, 32))
    if name.startswith("nnx"):
        return _nnx(pure=name == "nnx dictionary")
    return _linen(Small(), _images(4, 8))


NETWORKS = ["linen", "nnx state", "nnx dictionary", "vgg19"]


@pytest.mark.spec("B1", "B7")
@pytest.mark.parametrize("bias_of", [(), CONV_BIASES], ids=["norms", "biases"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_folded_network_gives_the_same_outputs(name: str, bias_of: Any):
    variables, run = _network(name)
    for seed in range(3):
        trained = _trained(variables, seed)
        folded = fold.batchnorm(trained, bias_of=bias_of)
        with jax.numpy_rank_promotion("allow"):
            expected, found = np.asarray(run(trained)), np.asarray(run(folded))
        assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()
        np.testing.assert_array_equal(found.argmax(1), expected.argmax(1))


@pytest.mark.spec("B10")
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_with_its_scales_in_the_kernels(name: str):
    variables, run = _network(name)
    trained = _trained(variables, 0)
    folded = fold.batchnorm(trained, bias_of=CONV_BIASES, kernels=True)
    with jax.numpy_rank_promotion("allow"):
        expected, found = np.asarray(run(trained)), np.asarray(run(folded))
    assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()
    named = trees.named_leaves(folded)
    scales = [leaf for name, leaf in named.items() if name.endswith("/scale")]
    assert scales
    assert all((leaf == 1).all() for leaf in scales)


@pytest.mark.spec("B10")
def test_kernels_that_cannot_take_a_scale():
    norm = {"mean": jnp.zeros(3), "var": jnp.ones(3), "scale": jnp.ones(3)}
    norm["bias"] = jnp.zeros(3)
    for conv, message in [
        ({"bias": jnp.zeros(3)}, "leaf 'conv1/kernel' is missing"),
        (
            {"bias": jnp.zeros(3), "kernel": jnp.ones((3, 4))},
            r"'conv1/kernel' has shape \(3, 4\): .* its last axis have 3 outputs",
        ),
    ]:
        tree = {"conv1": conv, "bn1": norm}
        with pytest.raises(ValueError, match=message):
            fold.batchnorm(tree, bias_of=CONV_BIASES, kernels=True)


class Upward(nn.Module):
    """Two layers from 4 channels to 4: only their names tell them apart."""

    transpose_kernel: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        up = nn.ConvTranspose(
            4, (3, 3), (2, 2), transpose_kernel=self.transpose_kernel, name="deconv1"
        )
        x = nn.relu(nn.BatchNorm(use_running_average=True, name="bn1")(up(x)))
        x = nn.Conv(4, (3, 3), name="conv2")(x)
        return nn.BatchNorm(use_running_average=True, name="bn2")(x)


@pytest.mark.spec("B11")
@pytest.mark.parametrize("transposed", [False, True])
def test_kernels_of_transposed_convolutions(transposed: bool):
    x = jnp.concatenate([_images(2, 6), _images(2, 6)[..., :1]], axis=-1)
    variables, run = _linen(Upward(transposed), x)
    trained = _trained(variables, 0)
    pairs = [("(?:de)?conv(.*)", r"bn\1")]
    fold_ = functools.partial(fold.batchnorm, trained, bias_of=pairs)
    folded = fold_(kernels=[("deconv", -2 if transposed else -1)])
    with jax.numpy_rank_promotion("allow"):
        expected, found = np.asarray(run(trained)), np.asarray(run(folded))
    assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()
    with pytest.raises(ValueError, match="'params/deconv1/kernel' may be that of a tr"):
        fold_(kernels=True)
    with pytest.raises(ValueError, match="pattern 'up' of `kernels` is the first to"):
        fold_(kernels=[("deconv", -1), ("up", -2)])


@pytest.mark.spec("B10", "B11")
@pytest.mark.parametrize("axis", [0, 2, -3])
def test_an_axis_that_has_not_the_outputs(axis: int):
    tree = {"conv1": _leaves(kernel=(5, 2), bias=(2,)), "bn1": _all()}
    with pytest.raises(ValueError, match=f"its axis {axis} have 2 outputs"):
        fold.batchnorm(tree, bias_of=CONV_BIASES, kernels=[("conv1", axis)])


@functools.cache
def _one_norm() -> Callable[[Any, jax.Array], Any]:
    return jax.jit(nn.BatchNorm(use_running_average=True).apply)


@st.composite
def _norms(draw: st.DrawFn) -> tuple[dict[str, dict[str, jax.Array]], jax.Array]:
    """Variables of a BatchNorm over 16 channels, of many magnitudes, and inputs."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    spread = draw(st.sampled_from([1, 10, 1000]))

    def values(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape) * spread ** rng.uniform(-1, 1, shape)

    arrays = {
        "params": {"scale": values(16), "bias": values(16)},
        "batch_stats": {"mean": values(16), "var": values(16) ** 2},
    }
    x = arrays["batch_stats"]["mean"] + values(64, 16)
    return jax.tree.map(lambda a: jnp.array(a, jnp.float32), (arrays, x))


@pytest.mark.spec("B1")
@given(_norms())
def test_an_output_moves_by_a_few_roundings_at_most(case: Any):
    variables, x = case
    folded = fold.batchnorm(variables)
    with jax.numpy_rank_promotion("allow"):
        moved = np.abs(_one_norm()(folded, x) - _one_norm()(variables, x))
        size = jnp.abs(x) + jnp.abs(variables["batch_stats"]["mean"])
        bound = size * jnp.abs(folded["params"]["scale"])
        bound = 8 * 2.0**-24 * (bound + jnp.abs(variables["params"]["bias"]))
    assert (moved <= bound).all()


@pytest.mark.spec("B2")
@given(_norms())
def test_the_new_scale_is_the_factor_that_flax_multiplies_by(case: Any):
    variables, _ = case
    plain = jax.tree.map(jnp.zeros_like, variables)
    plain["params"]["scale"] = variables["params"]["scale"]
    plain["batch_stats"]["var"] = variables["batch_stats"]["var"]
    with jax.numpy_rank_promotion("allow"):
        (factor,) = _one_norm()(plain, jnp.ones((1, 16)))
    scale = fold.batchnorm(variables)["params"]["scale"]
    np.testing.assert_array_equal(np.asarray(scale), np.asarray(factor))


@pytest.mark.spec("B3")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@given(st.floats(0, 1, exclude_max=True) | st.sampled_from([1e-5, 1e-3]))
def test_what_is_left_of_the_statistics_divides_by_one(dtype: str, epsilon: float):
    tree = {name: jnp.ones(3, dtype) for name in ("mean", "var", "scale", "bias")}
    folded = fold.batchnorm(tree, epsilon=epsilon)

    assert not folded["mean"].any()
    total = folded["var"] + epsilon
    assert total.dtype == dtype
    assert (total == 1).all()
    assert (jax.lax.rsqrt(total) == 1).all()


@pytest.mark.spec("B4")
@pytest.mark.parametrize("name", [*NETWORKS, "frozen"])
def test_structure_and_all_other_leaves_are_kept(name: str):
    variables = _trained(_network(name)[0], 0)
    if name == "frozen":
        variables = flax.core.freeze(variables)
    folded = fold.batchnorm(variables)

    assert jax.tree.structure(folded) == jax.tree.structure(variables)
    new = trees.named_leaves(folded)
    for leaf_name, old in trees.named_leaves(variables).items():
        if "bn" in leaf_name:
            assert (new[leaf_name].shape, new[leaf_name].dtype) == (
                old.shape,
                old.dtype,
            )
        else:
            assert new[leaf_name] is old


@pytest.mark.spec("B4")
def test_dtypes_are_kept_and_the_bias_is_computed_in_float32():
    variables = {
        "mean": jnp.array([3.0], jnp.bfloat16),
        "var": np.array([3.75], np.float32),
        "scale": jnp.array([1 / 3], jnp.bfloat16),
        "bias": np.array([0.0], np.float32),
    }
    folded = fold.batchnorm(variables, epsilon=0.25)

    assert {k: v.dtype for k, v in folded.items()} == {
        k: v.dtype for k, v in variables.items()
    }
    assert folded["bias"][0] == -3 * folded["scale"][0].astype(jnp.float32)


@pytest.mark.spec("B5")
@pytest.mark.parametrize("bias_of", [(), CONV_BIASES], ids=["norms", "biases"])
@pytest.mark.parametrize("name", ["linen", "nnx state", "vgg19"])
def test_folding_again_changes_nothing(name: str, bias_of: Any):
    once = fold.batchnorm(_trained(_network(name)[0], 0), bias_of=bias_of)
    twice = fold.batchnorm(once, bias_of=bias_of)
    laws.assert_identical(twice, once)


def _leaves(**shapes: tuple[int, ...]) -> dict[str, jax.Array]:
    return {name: jnp.ones(shape) for name, shape in shapes.items()}


def _all(size: int = 2) -> dict[str, jax.Array]:
    return _leaves(mean=(size,), var=(size,), scale=(size,), bias=(size,))


@pytest.mark.spec("B6")
def test_a_batchnorm_is_found_by_the_names_of_its_leaves():
    statistics, parameters = (
        _leaves(mean=(2,), var=(2,)),
        _leaves(scale=(2,), bias=(2,)),
    )
    found: list[Any] = [
        _all(),
        {"blocks": [{"bn": _all()}, {"bn": _all(3)}]},
        {"params": parameters, "batch_stats": statistics},
        {"net": {"params": {"a": parameters}, "batch_stats": {"a": statistics}}},
        {"params": {"bn": parameters}, "batch_stats": {"bn": statistics}, "step": 7},
    ]
    for tree in found:
        stats = {
            name: leaf
            for name, leaf in trees.named_leaves(fold.batchnorm(tree)).items()
            if name.endswith("mean")
        }
        assert stats
        assert not any(leaf.any() for leaf in stats.values())


@pytest.mark.spec("B6")
def test_other_statistics_and_norms_are_left_alone():
    variables = {
        "bn": _all(),
        "prior": _leaves(mean=(3,)),
        "layer_norm": _leaves(scale=(3,), bias=(3,)),
        "input": _leaves(running_mean=(3,), running_var=(3,)),
    }
    folded = fold.batchnorm(variables)
    for name in ("prior", "layer_norm", "input"):
        laws.assert_identical(folded[name], variables[name])


@pytest.mark.spec("B7")
def test_only_the_biases_of_the_pairs_become_zero():
    variables = {
        "conv1": _leaves(kernel=(3, 2), bias=(2,)),
        "bn1": _all(),
        "conv2": _leaves(kernel=(2, 2), bias=(2,)),
        "bn2": _all(),
    }
    # The second pair matches both, but a bias follows the first that matches it.
    pairs = [("conv1", "bn1"), (r"\w+(\d)", r"bn\1")]
    for bias_of, zeros in ((pairs[:1], {"conv1"}), (pairs, {"conv1", "conv2"})):
        folded = fold.batchnorm(variables, bias_of=bias_of)
        for name in ("conv1", "conv2"):
            assert bool(folded[name]["bias"].any()) == (name not in zeros)
            assert folded[name]["kernel"] is variables[name]["kernel"]


@pytest.mark.spec("B8")
@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({}, "no BatchNorm to fold"),
        ({"params": {"bn": _leaves(scale=(2,), bias=(2,))}}, "running statistics"),
        (
            _leaves(mean=(2,), scale=(2,), bias=(2,)),
            "'mean', 'scale', 'bias' has no var",
        ),
        (_leaves(var=(2,), scale=(2,), bias=(2,)), "has no mean"),
        (_leaves(mean=(2,), var=(2,), bias=(2,)), "has no scale: .*use_scale=True"),
        (_leaves(mean=(2,), var=(2,), scale=(2,)), "has no bias: .*use_bias=True"),
        ({"batch_stats": {"bn": _leaves(mean=(2,), var=(2,))}}, "has no scale"),
        (_all() | _leaves(scale=(3,)), r"differ in shape: .*'scale' \(3,\)"),
        (_all() | {"var": jnp.array([1.0, -1e-5])}, "'var' plus epsilon 1e-05 is not"),
        (_all() | {"var": jnp.array([1.0, jnp.nan])}, "not positive everywhere"),
        (_all() | {"scale": jnp.ones(2, int)}, "'scale' is int32: only floating"),
        (_all() | {"mean": np.ones(2)}, "'mean' is float64: .*jax_enable_x64"),
    ],
)
def test_what_cannot_be_folded_is_rejected(tree: Any, message: str):
    with pytest.raises(ValueError, match=message):
        fold.batchnorm(tree)


@pytest.mark.spec("B8")
@pytest.mark.parametrize("flag", ["use_scale", "use_bias"])
def test_flax_without_a_part_is_rejected(flag: str):
    module = nn.BatchNorm(use_running_average=True, **{flag: False})
    variables = _trained(_linen(module, jnp.ones((2, 4)))[0], 0)
    with pytest.raises(ValueError, match=f"make it with {flag}=True"):
        fold.batchnorm(variables)


@pytest.mark.spec("B8")
@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([("conv", "norm")], "'conv1/bias' .* 'norm1/bias', which is no BatchNorm's"),
        ([("conv1/bias", "bn1/mean")], "'bn1/mean', which is no BatchNorm's bias"),
        ([(r"conv\d", "bn1")], "'conv2/bias' in front of 'bn1/bias', which has one"),
        ([("cnov", "bn")], "'cnov' is the first for no bias"),
        ([("conv", "bn"), ("conv1", "bn1")], "'conv1' is the first for no bias"),
        ([("bn1", "bn2")], "'bn1' is the first for no bias"),
        ([("kernel", "bias")], "'kernel' is the first for no bias"),
        ([("wide", "bn1")], r"differ in shape: .*'wide/bias' \(3,\)"),
    ],
)
def test_pairs_that_do_not_fit_are_rejected(pairs: Any, message: str):
    conv = _leaves(kernel=(3, 2), bias=(2,))
    variables = {"conv1": conv, "bn1": _all(), "conv2": conv, "bn2": _all()}
    variables["wide"] = _leaves(bias=(3,))
    with pytest.raises(ValueError, match=message):
        fold.batchnorm(variables, bias_of=pairs)


@pytest.mark.spec("B8")
@pytest.mark.parametrize("epsilon", [-1e-5, 1.0, float("nan")])
def test_an_impossible_epsilon_is_rejected(epsilon: float):
    with pytest.raises(ValueError, match="at least 0 and less than 1"):
        fold.batchnorm(_all(), epsilon=epsilon)


@pytest.mark.spec("B9")
def test_folding_can_be_compiled():
    variables = _trained(_network("linen")[0], 0)
    plain = fold.batchnorm(variables, bias_of=CONV_BIASES)
    jitted = jax.jit(lambda tree: fold.batchnorm(tree, bias_of=CONV_BIASES))(variables)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-6)
    jax.tree.map(close, jitted, plain)
    negative = jax.jit(fold.batchnorm)(_all() | {"var": -jnp.ones(2)})
    assert jnp.isnan(negative["scale"]).all()


def test_folded_statistics_cost_a_few_bytes_and_come_back_exactly(tmp_path: Path):
    variables = _trained(_network("vgg19")[0], 0)
    folded = fold.batchnorm(variables)
    rules = [dc.Rule("/(mean|var)$", share=share.kmeans(k=1), group=r"\1")]
    path = tmp_path / "folded.dcz"
    size = dc.save(path, dc.compress(folded, rules))
    bare = {"params": dict(folded["params"])}
    without = dc.save(tmp_path / "bare.dcz", dc.compress(bare, []))

    statistics = len(jax.tree.leaves(folded["batch_stats"]))
    assert size - without < 24 * statistics
    laws.assert_identical(dc.load(path), folded)
