"""Which leaves are quantized without rules, and how much they change."""

import math
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax.training.train_state import TrainState
from hypothesis import example, given, settings
from hypothesis import strategies as st

import deepcomp_jax as dc
from deepcomp_jax import prune, share, trees
from deepcomp_jax._types import DenseLeaf, SharedLeaf
from deepcomp_jax.rules import resolve
from deepcomp_jax.rules.weights import find_weights
from tests.support import laws

# Leaves that other frameworks have, their shapes, and whether they are weights.
FOREIGN = [
    ("params/Dense_0/kernel", (4, 5), True),
    ("params/layers/attention/query/kernel", (6, 4, 2, 5), True),
    ("params/layers/attention/query/bias", (6, 2, 5), False),
    ("params/layers/LayerNorm_0/scale", (6, 4), False),
    ("params/Embed_0/embedding", (9, 4), True),
    ("batch_stats/layers/bn/mean", (6, 4), False),
    ("batch_stats/layers/bn/kernel", (6, 4), False),
    ("params/cls", (1, 1, 4), False),
    ("transformer/h_0/mlp/linear/w", (4, 5), True),
    ("transformer/h_0/mlp/linear/b", (6, 5), False),
    ("bn/~/mean_ema/average", (6, 4), False),
    ("bn/~/var_ema/hidden", (6, 4), False),
    ("embed/embeddings", (9, 4), True),
    ("encoder.layer.0.attention.self.key.weight", (4, 4), True),
    ("encoder.layer.0.attention.output.LayerNorm.weight", (6, 4), False),
    ("layers.1.running_mean", (6, 4), False),
    ("layers.1.running_var", (6, 4), False),
    ("layers.1.num_batches_tracked", (6, 4), False),
    ("model.layers.0.post_attention_layernorm.weight", (6, 4), False),
    ("model.layers.0.ln_1.weight", (6, 4), False),
    ("lstm.weight_ih_l0", (8, 4), True),
    ("attn.in_proj_weight", (12, 4), True),
    ("attn.in_proj_bias", (6, 12), False),
    ("conv/weight", (8, 4, 3), True),
    ("conv/bias", (8, 1, 1), False),
    ("fc.weight_scale", (8, 4), False),
    ("fc.weight_g", (8, 1), False),
    ("onnx::MatMul_214", (4, 5), True),
    ("batch_normalization_3/moving_variance", (6, 4), False),
    ("linear_0.w_0", (4, 5), True),
    ("batch_norm2d_0.w_0", (6, 4), False),
    ("batch_norm2d_0.w_2", (6, 4), False),
    ("layer_0/mlp/gating_einsum", (2, 4, 5), True),
    ("decoder/layers/mlp/wi_0", (6, 4, 5), True),
    ("q_proj.lora_A", (4, 2), True),
    ("opt_state/0/mu/params/Dense_0/kernel", (4, 5), False),
    ("optimizer.state.exp_avg_sq.fc.weight", (4, 5), False),
]


@pytest.mark.spec("W1", "W2", "W3")
@pytest.mark.parametrize(("name", "shape", "is_weight"), FOREIGN)
@pytest.mark.parametrize("stacked", [(), (3,), (2, 3)])
def test_names_of_other_frameworks(
    name: str, shape: tuple[int, ...], is_weight: bool, stacked: tuple[int, ...]
):
    """A leaf stacked by `vmap` or `nn.scan` is what it was, and so is a vector."""
    tree = {name: np.ones((*stacked, *shape), np.float32)}
    assert (name in find_weights(tree)) == is_weight
    assert not find_weights({name: np.ones((*stacked, *shape), np.int32)})
    assert not find_weights({name: np.ones(7, np.float32)})


@pytest.mark.spec("W2")
def test_what_optax_made_is_known_by_its_type():
    params = {"kernel": jnp.ones((3, 4))}
    for optimizer in (
        optax.adam(1.0), optax.sgd(1.0, 0.9), optax.adafactor(1.0), optax.lion(1.0),
        optax.chain(optax.clip(1.0), optax.masked(optax.adam(1.0), {"kernel": True})),
    ):  # fmt: skip
        tree = {"net": params, "rest": optimizer.init(params)}
        assert list(find_weights(tree)) == ["net/kernel"]


@pytest.mark.spec("W2", "W5")
def test_a_training_state_goes_on_as_it_would():
    """Its next update is that of the state that was not compressed."""
    model = nn.Dense(64)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(32, 64)), jnp.float32)
    params = model.init(jax.random.key(0), x)["params"]
    state = TrainState.create(apply_fn=model.apply, params=params, tx=optax.adam(1e-3))
    grads = {"kernel": x.T @ x, "bias": x.sum(axis=0)}
    state = state.apply_gradients(grads=grads)
    with pytest.warns(UserWarning, match="opt_state/0/mu/kernel"):
        compressed = dc.compress(state)
    back = trees.rebuild(state, trees.named_leaves(dc.decompress(compressed)))
    laws.assert_identical(back.opt_state, state.opt_state)
    assert not np.array_equal(back.params["kernel"], state.params["kernel"])


@pytest.mark.spec("W1", "W4")
@pytest.mark.parametrize(
    "find",
    [
        dc.default_rules,
        lambda tree: dc.budget.plan(tree, max_relative_error=0.1),
        lambda tree: dc.rate.quantize(tree, rd_lambda=0.1).labels,
    ],
    ids=["compress", "plan", "quantize"],
)
def test_weights_that_jax_would_cut_are_left_with_a_warning(find: Any):
    wide = np.random.default_rng(0).normal(size=(20, 30))
    tree = {"a": {"kernel": wide}, "b": {"kernel": wide.astype(np.float32)}}
    with pytest.warns(UserWarning, match=r"64 bits .* \(a/kernel\): set jax_enable"):
        assert len(find(tree)) == 1
    with pytest.warns(UserWarning, match="64 bits"):
        decoded = dc.decompress(dc.compress(tree))
    laws.assert_identical(decoded["a"]["kernel"], wide)
    assert (decoded["b"]["kernel"] != tree["b"]["kernel"]).any()
    with jax.enable_x64(True), warnings.catch_warnings():
        warnings.simplefilter("error")
        decoded = dc.decompress(dc.compress(tree))
    assert decoded["a"]["kernel"].dtype == np.float64
    assert 0 < np.abs(decoded["a"]["kernel"] - wide).max() < 0.036


@pytest.mark.spec("W5")
@given(
    st.sampled_from(["float32", "float16", "bfloat16"]),
    st.sampled_from([1e-4, 1.0, 100.0]),
    st.sampled_from(["normal", "laplace", "uniform", "outlier", "pruned", "constant"]),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=30)
def test_the_default_rules_keep_their_bound(
    dtype: str, scale: float, kind: str, seed: int
):
    rng = np.random.default_rng(seed)
    draw = rng.laplace if kind == "laplace" else rng.normal
    weights = draw(size=(40, 50))
    if kind == "uniform":
        weights = rng.uniform(-1, 1, size=(40, 50))
    if kind == "pruned":
        weights *= rng.random((40, 50)) < 0.1
    if kind == "outlier":
        weights[0, 0] = 300
    if kind == "constant":
        weights[:] = 0.7
    leaf = (scale * weights).astype(np.dtype(getattr(ml_dtypes, dtype, dtype)))
    tree = {"fc/kernel": leaf, "embed/embedding": leaf, "fc/bias": leaf[0]}
    decoded = dc.decompress(dc.compress(tree))
    np.testing.assert_array_equal(decoded["fc/bias"], leaf[0])
    wide = leaf.astype(np.float64)
    rms = math.sqrt(np.square(wide[wide != 0]).mean())
    limits = jnp.finfo(leaf.dtype)
    precision = float(limits.eps) * np.abs(wide) + float(limits.smallest_subnormal)
    for name, bound in (("fc/kernel", 0.035), ("embed/embedding", 0.08)):
        errors = np.abs(decoded[name].astype(np.float64) - wide)
        assert (errors <= bound * rms + precision).all()
        assert (decoded[name][leaf == 0] == 0).all()


@pytest.mark.spec("W5")
def test_nothing_is_chosen_twice_or_pruned():
    tree = {"a": {"kernel": jnp.ones((3, 4))}, "wte": {"weight": jnp.ones((3, 4))}}
    rules = dc.default_rules(tree)
    assert all(rule.prune is None for rule in rules)
    assert [
        [bool(re.search(rule.pattern, name)) for name in ("a/kernel", "wte/weight")]
        for rule in rules
    ] == [[False, True], [True, False]]


@pytest.mark.spec("W4")
def test_what_was_left_out_is_said():
    rng = np.random.default_rng(0)
    tree = {f"theta{i:02}": rng.normal(size=(4, 5)).astype("f4") for i in range(30)}
    for call in (dc.compress, lambda tree: dc.budget.point(tree, rd_lambda=1.0)):
        with pytest.warns(
            UserWarning, match=r"600 of 600 .* theta19, and 10 more\): give"
        ):
            call(tree)
    vectors = {f"b{i}": np.ones(5, np.float32) for i in range(30)}
    dc.compress(vectors)  # nobody would share these


@pytest.mark.spec("W6")
@given(
    st.lists(st.floats(-1e3, 1e3).filter(bool), min_size=1, max_size=40),
    st.sampled_from([1e-30, 1.0, 1e30]),
    st.floats(0.01, 0.5),
)
@example([1e3] + [1e-3] * 39, 1.0, 0.01)
def test_uniform(values: list[float], scale: float, max_error: float):
    weights = scale * np.array(values)
    codebook = share.uniform(max_error)(weights, None)
    rms = math.sqrt(math.fsum((w / scale) ** 2 for w in weights) / len(weights)) * scale
    nearest = np.abs(weights[:, None] - codebook).min(axis=1)
    assert (nearest <= max_error * rms * (1 + 1e-9)).all()
    factors = codebook / (2 * max_error * rms)
    assert factors == pytest.approx(np.rint(factors), rel=2e-3, abs=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
@pytest.mark.parametrize("max_error", [1e-6, 1e-4, 0.03, 0.5])
def test_uniform_of_many_values(dtype: str, max_error: float):
    """Also where multiples are far more than values, for an outlier."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal(200_000)
    weights[::50] *= 1000
    weights = weights.astype(np.dtype(dtype)).astype(np.float64)
    codebook = share.uniform(max_error)(weights.astype(np.dtype(dtype)), None)
    step = 2 * max_error * math.sqrt(np.square(weights).mean())
    exact = float(np.diff(codebook).min())
    factors = np.rint(codebook / exact)
    assert step * (1 - 2**-10) <= exact <= step
    np.testing.assert_allclose(codebook, factors * exact, rtol=1e-9)
    np.testing.assert_array_equal(factors, np.unique(np.rint(weights / exact)))


@pytest.mark.parametrize("max_error", [0.0, -1.0, 1.0, math.nan, math.inf])
def test_errors_that_are_none(max_error: float):
    with pytest.raises(ValueError, match="must be above 0 and below 1"):
        share.uniform(max_error)


def test_many_leaves_take_time_in_proportion():
    """800 rules on 800 leaves were 640,000 searches, and as many patterns compiled."""
    tree = {f"layer{i}/kernel": np.ones((4, 4), np.float32) for i in range(800)}
    assert len(dc.default_rules(tree)) == 1


def _made_with(**parts: Any) -> Callable[[], Any]:
    return lambda: dc.Rule("kernel$", **parts)


@pytest.mark.spec("W8")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_made_with(share=share.kmeans), "'kmeans', not a method that it returns"),
        (_made_with(share=share.uniform), "'uniform', not a method that it returns"),
        (_made_with(prune=prune.by_std), "'by_std', not a method that it returns"),
        (_made_with(share=0.5), "share=0.5 is no method: give one such as share."),
        (_made_with(prune=0.5), "prune=0.5 is no method: give one such as prune."),
        (_made_with(prune=share.kmeans(4)), "what is given as prune does not take"),
        (_made_with(share=prune.by_std(1)), "what is given as share does not take"),
        (lambda: dc.Rule(("kernel", "bias")), "the pattern of a rule is a string"),
        (lambda: dc.Rule("['params']['kernel']"), "names of leaves are keys joined"),
        (lambda: dc.Rule("(kernel"), "is no regular expression"),
    ],
)
def test_natural_mistakes_in_a_rule(make: Callable[[], Any], message: str):
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        make()


_TREE = {"params": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}}
_RULE = dc.Rule("kernel", share=share.kmeans(1))


@pytest.mark.spec("W7")
@pytest.mark.parametrize(
    "rules",
    [_RULE, "kernel", ["kernel"], [("kernel", share.kmeans(1), None)], {"a": _RULE}],
)
def test_every_function_that_chooses_leaves_takes_a_list_of_rules(rules: Any):
    shared = share.share(_TREE, [_RULE])
    for call in (
        lambda: dc.compress(_TREE, rules),
        lambda: dc.pack(shared, rules),
        lambda: prune.masks(_TREE, rules),
        lambda: share.share(_TREE, rules),
        lambda: dc.rate.quantize(_TREE, rules, rd_lambda=1.0),
        lambda: dc.budget.within_bytes(_TREE, 1000, rules),
        lambda: dc.budget.within_error(_TREE, lambda _: 0.0, 1.0, rules),
    ):
        with pytest.raises(TypeError, match="rules (are a list|hold)"):
            call()


def test_first_calls_that_come_naturally_say_what_to_do(tmp_path: Path):
    path = tmp_path / "model.dcz"
    with pytest.raises(TypeError, match=r"got a dict: compress the network first"):
        dc.save(path, _TREE)  # type: ignore[arg-type]
    shared: Any = share.share(_TREE, [_RULE])
    with pytest.raises(TypeError, match="got a SharedWeights: pack it first"):
        dc.save(path, shared)
    with pytest.raises(TypeError, match="save the network first"):
        dc.report(dc.pack(shared))  # type: ignore[arg-type]
    for wrong, message in (
        (lambda: dc.compress(dc.pack(shared)), "give it to dc.save"),
        (lambda: dc.compress(shared), "give it to dc.pack"),
        (lambda: dc.pack(_TREE), "use dc.compress for a network"),
        (lambda: dc.decompress(str(path)), "got a str: compress the network first"),
        (lambda: dc.load(b"x"), "use dc.loads for bytes"),
        (lambda: dc.loads(str(path)), "use dc.load for a path"),
        (lambda: dc.budget.within_bytes(_TREE, "1KB"), "a whole number of bytes"),
        (lambda: dc.save(path, dc.budget.point(_TREE, rd_lambda=1.0)), "`compressed`"),
    ):
        with pytest.raises(TypeError, match=message):
            wrong()
    assert repr(dc.pack(shared)) == (
        "Compressed(2 leaves, 2 of them with labels, 1 codebooks)"
    )
    assert not path.exists()


@pytest.mark.spec("W7", "W9")
@given(st.data())
def test_a_leaf_follows_the_first_rule_that_matches(data: st.DataObject):
    """Against a search by hand, for any order of rules that overlap."""
    names = ["a/kernel", "a/bias", "b/kernel", "b/bias", "head"]
    patterns = data.draw(
        st.lists(st.sampled_from(["a/", "b/", "kernel", "bias$", ".", "head", "c/"]))
    )
    rules = [dc.Rule(pattern, coding="packed") for pattern in patterns]
    first = {
        name: next((r for r in rules if re.search(r.pattern, name)), None)
        for name in names
    }
    idle = [r for r in rules if not any(r is rule for rule in first.values())]
    if idle:
        matches = any(re.search(idle[0].pattern, name) for name in names)
        message = "has no effect, since all leaves" if matches else "matches no leaf"
        with pytest.raises(ValueError, match=message):
            resolve(rules, names)
        return
    expected = {name: (rule, name) for name, rule in first.items() if rule}
    assert resolve(rules, names) == expected


@pytest.mark.spec("Q17")
def test_rules_of_a_budget_prune_share_and_code():
    """A rule means in a search what it means in `compress`."""
    rng = np.random.default_rng(0)
    tree = {n: rng.normal(size=(40, 50)).astype(np.float32) for n in ("a", "b", "c")}
    rules = [
        dc.Rule("a", prune=prune.by_magnitude(0.75), coding="packed"),
        dc.Rule("b", share=share.kmeans(3)),
    ]
    found = dc.budget.point(tree, rules, rd_lambda=1e-6)
    a, b, c = found.compressed.leaves
    assert (
        isinstance(a, SharedLeaf)
        and isinstance(b, SharedLeaf)
        and isinstance(c, DenseLeaf)
    )
    assert a.coding == "packed"
    assert np.count_nonzero(a.labels) == 500
    decoded = dc.decompress(found.compressed)
    np.testing.assert_array_equal(decoded["c"], tree["c"])
    means = share.kmeans(3)(tree["b"].ravel(), None)
    assert set(np.unique(decoded["b"])) <= {*means.astype(np.float32), 0}
    with pytest.raises(ValueError, match="group='all' has no effect here"):
        dc.budget.point(
            tree, [dc.Rule("b", share=share.kmeans(3), group="all")], rd_lambda=1.0
        )
