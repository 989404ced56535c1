"""The five verbs, on pytrees of every kind."""

from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import deepcomp_jax as dc
from deepcomp_jax import codings, prune, share


def assert_identical(left: Any, right: Any) -> None:
    """Same containers, and leaves equal in dtype, shape and every bit."""
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert a.tobytes() == b.tobytes()


def _mixed() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "kernel": rng.standard_normal((40, 50)).astype(np.float32),
        "half": jnp.array(rng.standard_normal((30, 20)), jnp.bfloat16),
        "step": np.int32(7),
        "wide": rng.standard_normal(3),
        "empty": np.zeros((0, 4), np.float32),
        "flags": [np.array([True, False]), (None, np.float32(-0.0))],
        "odd": np.array([np.nan, np.inf, -0.0], np.float32),
    }


def test_the_journey_of_the_readme(tmp_path: Path):
    model = nn.Dense(20)
    variables = model.init(jax.random.key(0), jnp.ones((1, 300)))
    path = tmp_path / "model.dcz"

    compressed = dc.compress(variables)
    size = dc.save(path, compressed)
    loaded = dc.load(path)

    assert size == path.stat().st_size < 300 * 20
    assert_identical(loaded, dc.decompress(compressed))
    assert jax.tree.structure(loaded) == jax.tree.structure(variables)
    assert "params/kernel" in str(dc.report(path))
    x = jnp.ones((4, 300))
    np.testing.assert_array_equal(
        model.apply(loaded, x), model.apply(dc.decompress(compressed), x)
    )


def test_leaves_without_a_rule_keep_every_bit(tmp_path: Path):
    variables = _mixed()
    dc.save(tmp_path / "m.dcz", dc.compress(variables, []))

    assert_identical(dc.load(tmp_path / "m.dcz"), variables)


def test_rules_prune_and_share(tmp_path: Path):
    rules = [
        dc.Rule("kernel|half", prune.by_magnitude(0.75), share.kmeans(8)),
    ]
    decoded = dc.decompress(dc.compress(_mixed(), rules))

    for name, size in (("kernel", 2000), ("half", 600)):
        leaf = decoded[name]
        assert np.count_nonzero(leaf) == size // 4
        assert len(np.unique(leaf)) <= 9
    assert decoded["half"].dtype == jnp.bfloat16


@pytest.mark.parametrize(
    "method",
    [share.kmeans(8), share.kmeans(bits=3), share.lloyd(8), share.distinct],
)
def test_compressing_what_was_decompressed_changes_nothing(method: share.Method):
    rules = [dc.Rule("kernel|half", None, method)]
    once = dc.decompress(dc.compress(_mixed(), rules))
    assert_identical(dc.decompress(dc.compress(once, rules)), once)


def test_the_same_network_gives_the_same_bytes(tmp_path: Path):
    variables = _mixed()
    shuffled = {key: variables[key] for key in sorted(variables, reverse=True)}
    paths = [tmp_path / name for name in ("a.dcz", "b.dcz")]
    for path, tree in zip(paths, (variables, shuffled), strict=True):
        dc.save(path, dc.compress(tree))

    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_nnx_state_comes_back_through_like(tmp_path: Path):
    model = nnx.Linear(30, 20, rngs=nnx.Rngs(0))
    state = nnx.state(model)
    path = tmp_path / "model.dcz"
    compressed = dc.compress(state)
    dc.save(path, compressed)

    loaded = dc.load(path, like=state)
    assert jax.tree.structure(loaded) == jax.tree.structure(state)
    nnx.update(model, loaded)
    expected = dc.decompress(compressed)
    np.testing.assert_array_equal(
        nnx.to_pure_dict(loaded)["kernel"], expected["kernel"]
    )
    assert model(jnp.ones((1, 30))).shape == (1, 20)


def test_numbers_of_python_and_other_byte_orders(tmp_path: Path):
    """The step of a new `TrainState` of Flax is an int."""
    path = tmp_path / "m.dcz"
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((20, 30)).astype(">f4")
    variables = {"step": 3, "rate": 0.5, "ones": np.ones(5, ">f4"), "w": matrix}
    dc.save(path, dc.compress(variables, []))
    native = {"ones": np.ones(5, np.float32), "w": np.empty((20, 30), np.float32)}
    loaded = dc.load(path, like={"step": 0, "rate": 0.0} | native)
    assert (loaded["step"], loaded["rate"]) == (3, 0.5)
    np.testing.assert_array_equal(loaded["w"], matrix)
    with pytest.raises(ValueError, match="leaf 'rate' is float64"):
        dc.compress(variables, [dc.Rule("rate", share=share.kmeans(2))])


def test_what_was_compressed_does_not_change_with_its_source():
    bias = np.arange(5, dtype=np.float32)
    compressed = dc.compress({"b": bias}, [])
    bias[:] = 0
    assert dc.decompress(compressed)["b"].tolist() == [0, 1, 2, 3, 4]


def test_a_floating_type_that_no_codebook_has():
    tiny = jnp.ones((3, 5), jnp.float8_e4m3fn)
    with pytest.raises((ValueError, TypeError), match="float8_e4m3fn"):
        dc.save("never", dc.compress({"a": tiny}))


def test_random_keys_of_nnx_are_named():
    model = nnx.Dropout(0.5, rngs=nnx.Rngs(0))
    tree = {"fc": jnp.ones((3, 4)), "drop": nnx.state(model)}
    with pytest.raises(ValueError, match="'drop/rngs/key' is a random key"):
        dc.compress(tree)
    tree["drop"] = nnx.state(model, nnx.Not(nnx.RngState))
    assert dc.decompress(dc.compress(tree))["fc"].shape == (3, 4)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"pattern": "kernal$"}, "pattern 'kernal\\$' matches no leaf: there are w"),
        ({"pattern": "("}, "'\\(' is no regular expression"),
        (
            {"pattern": "w", "group": r"g\1", "share": share.kmeans(2)},
            r"template 'g\\\\1' does not fit pattern 'w'",
        ),
        ({"pattern": "w", "group": "g"}, "'w': group='g' has no effect without a shar"),
        ({"pattern": "w", "coding": "dense"}, "'w': coding='dense' has no effect, si"),
        ({"pattern": "w", "coding": "zip"}, "no coding 'zip', choose one of"),
        ({"pattern": "w", "gap_bits": 5}, "gap_bits=5 must be 1 to 16, with coding="),
        ({"pattern": "w", "coding": "relative", "gap_bits": 17}, "must be 1 to 16"),
    ],
)
def test_rules_that_cannot_be_meant(rule: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        dc.compress({"w": np.eye(2, dtype=np.float32)}, [dc.Rule(**rule)])


@pytest.mark.parametrize("coding", list(codings.ALL))
def test_a_coding_that_no_labels_follow_is_an_error(coding: str):
    """Whether its leaves have no labels or an earlier rule has taken them all."""
    variables = {"v": jnp.arange(4.0), "w": jnp.arange(6.0)}
    shared = share.share(variables, [("w", share.kmeans(2), None)])
    for rules in (
        [dc.Rule("v", coding=coding), dc.Rule("w", coding=coding)],
        [dc.Rule("."), dc.Rule("w", coding=coding)],
        [dc.Rule("w"), dc.Rule(".", coding=coding)],
        [dc.Rule("x", coding=coding)],
    ):
        with pytest.raises(ValueError, match=f"coding='{coding}' has no effect"):
            dc.pack(shared, rules)
    leaves = dc.pack(shared, [dc.Rule(".", coding=coding)]).leaves
    assert [getattr(leaf, "coding", None) for leaf in leaves] == [None, coding]


@jax.tree_util.register_pytree_with_keys_class
class Module:
    """Like an Equinox module: all of its fields are leaves, functions too."""

    def __init__(self, **fields: Any):
        self.fields = fields

    def tree_flatten_with_keys(self) -> tuple[Any, Any]:
        keyed = [(jax.tree_util.GetAttrKey(k), v) for k, v in self.fields.items()]
        return keyed, tuple(self.fields)

    @classmethod
    def tree_unflatten(cls, fields: tuple[str, ...], leaves: Any) -> "Module":
        return cls(**dict(zip(fields, leaves, strict=True)))


@pytest.mark.parametrize("rules", [None, [], [dc.Rule(".", share=share.kmeans(2))]])
@pytest.mark.parametrize("strange", [jax.nn.relu, jnp.tanh, "same", object(), len])
def test_leaves_that_are_no_arrays_are_one_error(rules: Any, strange: Any):
    weight = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)), jnp.float32)
    layers = [Module(weight=weight, act=strange) for _ in range(25)]
    kind = type(strange).__name__
    with pytest.raises(ValueError) as error:
        dc.compress({"mlp": layers}, rules)
    message = str(error.value)
    assert message.startswith(f"leaves that are no arrays: 'mlp/0/act' ({kind}), 'mlp/")
    assert "'mlp/19/act'" in message
    assert "'mlp/20/act'" not in message
    assert " and 5 more; leave them out, of Equinox by eqx.filter(" in message

    arrays = [Module(weight=weight, act=None) for _ in range(2)]
    assert len(dc.compress({"mlp": arrays}, rules).leaves) == 2


def test_codebooks_that_went_astray():
    shared = share.share({"w": jnp.arange(6.0)}, [("w", share.kmeans(5), None)])
    lost = share.with_codebooks(shared, {"w": jnp.full(5, jnp.nan)})
    with pytest.raises(ValueError, match="group 'w' holds NaN or infinity"):
        dc.pack(lost)
    with pytest.raises(ValueError, match=r"no groups \['v'\]: there are \['w'\]"):
        share.with_codebooks(shared, {"v": jnp.ones(5)})


@pytest.mark.spec("S24")
@pytest.mark.parametrize("other", [jnp.ones(4), jnp.ones(5, jnp.bfloat16)])
def test_codebooks_of_another_shape_or_dtype(other: jax.Array):
    shared = share.share({"w": jnp.arange(6.0)}, [("w", share.kmeans(5), None)])
    with pytest.raises(ValueError, match=r"codebook of 'w' is float32\[5\], not"):
        share.with_codebooks(shared, {"w": other})


def test_too_many_clusters():
    values = jnp.arange(1, 40001, dtype=jnp.float32)
    with pytest.raises(ValueError, match="'w' has 40000 entries, above 32768"):
        share.share({"w": values}, [("w", share.kmeans(bits=16), None)])


def test_like_that_does_not_fit_names_every_leaf(tmp_path: Path):
    path = tmp_path / "m.dcz"
    dc.save(path, dc.compress({"a": np.zeros(3, np.float32), "b": np.zeros(2)}, []))
    like = {"a": jax.ShapeDtypeStruct((4,), jnp.float32), "c": np.zeros(1)}

    with pytest.raises(ValueError) as error:
        dc.load(path, like=like)
    assert str(error.value) == (
        "the file does not fit `like`:\n"
        "  a: float32[3] in the file, float32[4] in `like`\n"
        "  b: only in the file\n"
        "  c: not in the file"
    )


def test_fine_tuned_codebooks_are_put_in_order():
    """Fine-tuning swapped two entries, merged two and moved one to zero."""
    weights = {"w": jnp.array([1.0, 2.0, 3.0, 4.0, 5.0, 0.0])}
    shared = share.share(weights, [("w", share.kmeans(5), None)])
    moved = share.with_codebooks(shared, {"w": jnp.array([2.0, 1.0, 7.0, 7.0, 0.0])})
    compressed = dc.pack(moved)

    assert compressed.codebooks[0].tolist() == [1.0, 2.0, 7.0]
    assert dc.decompress(compressed)["w"].tolist() == [2.0, 1.0, 7.0, 7.0, 0.0, 0.0]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_rejected(bad: float):
    variables = {"w": np.full((2, 2), bad, np.float32)}
    with pytest.raises(ValueError, match="leaf 'w' holds NaN or infinity"):
        dc.compress(variables)
    with pytest.raises(ValueError, match="leaf 'w' holds NaN or infinity"):
        dc.compress(variables, [dc.Rule("w", prune.by_std(1))])


def test_a_failed_save_leaves_the_old_file(tmp_path: Path):
    path = tmp_path / "m.dcz"
    dc.save(path, dc.compress({"a": np.ones(3, np.float32)}))
    before = path.read_bytes()

    with pytest.raises(ValueError):
        dc.save(path, dc.compress({("a",): np.ones(3, np.float32)}))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.dcz"]


@pytest.mark.parametrize("like", [False, True])
def test_loading_to_a_device(like: bool, tmp_path: Path):
    """Arrays of JAX there, equal in every bit to those of NumPy."""
    rng = np.random.default_rng(0)
    variables = _mixed() | {"wide": rng.standard_normal((300, 400)).astype(np.float32)}
    path = tmp_path / "m.dcz"
    rules = [dc.Rule("kernel|half|wide", prune.by_magnitude(0.8), share.kmeans(8))]
    dc.save(path, dc.compress(variables, rules))
    expected = dc.load(path)

    device = jax.devices()[0]
    for place in (device, jax.sharding.SingleDeviceSharding(device)):
        loaded = dc.load(path, variables if like else None, device=place)
        assert_identical(loaded, expected)
        for leaf in jax.tree.leaves(loaded):
            assert isinstance(leaf, jax.Array)
            assert leaf.devices() == {device}


def test_loading_to_a_device_finds_damage(tmp_path: Path):
    path = tmp_path / "m.dcz"
    dc.save(path, dc.compress({"a": np.arange(3000, dtype=np.float32)}, []))
    raw = bytearray(path.read_bytes())
    raw[-10] ^= 1
    path.write_bytes(raw)

    for place in (None, jax.devices()[0]):
        with pytest.raises(dc.FormatError) as error:
            dc.load(path, device=place)
        assert error.value.clause == "C33"
