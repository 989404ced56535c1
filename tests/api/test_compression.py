"""The five verbs, on pytrees of every kind."""

import itertools
import tempfile
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from hypothesis import given, settings
from hypothesis import strategies as st

import deepcomp_jax as dc
from deepcomp_jax import Rule, codings, prune, share
from deepcomp_jax._types import Compressed, DenseLeaf, SharedLeaf
from deepcomp_jax.format import byte_codebooks, container, file_header, records
from deepcomp_jax.rules import ShareMethod
from tests.support import laws, strategies


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
    laws.assert_identical(loaded, dc.decompress(compressed))
    assert jax.tree.structure(loaded) == jax.tree.structure(variables)
    assert "params/kernel" in str(dc.report(path))
    x = jnp.ones((4, 300))
    np.testing.assert_array_equal(
        model.apply(loaded, x), model.apply(dc.decompress(compressed), x)
    )


def test_leaves_without_a_rule_keep_every_bit(tmp_path: Path):
    variables = _mixed()
    dc.save(tmp_path / "m.dcz", dc.compress(variables, []))

    laws.assert_identical(dc.load(tmp_path / "m.dcz"), variables)


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
def test_compressing_what_was_decompressed_changes_nothing(method: ShareMethod):
    rules = [dc.Rule("kernel|half", None, method)]
    once = dc.decompress(dc.compress(_mixed(), rules))
    laws.assert_identical(dc.decompress(dc.compress(once, rules)), once)


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


def _states() -> dict[str, Any]:
    """A training state at its start, and after steps that were compiled or not."""
    params = {"kernel": jnp.ones((3, 4)), "bias": jnp.zeros(4)}
    fresh = TrainState.create(
        apply_fn=lambda *_: None, params=params, tx=optax.adam(0.1)
    )
    step = fresh.apply_gradients(grads=params)
    return {
        "fresh": fresh,
        "stepped": step,
        "compiled": jax.jit(lambda s: s.apply_gradients(grads=params))(fresh),
        "shapes": jax.eval_shape(lambda: fresh),
        "array": fresh.replace(step=jnp.zeros((), jnp.int32)),
    }


@pytest.mark.parametrize("like", ["fresh", "stepped", "compiled", "shapes"])
@pytest.mark.parametrize("saved", ["fresh", "stepped", "compiled", "array"])
def test_training_states_load_into_each_other(saved: str, like: str, tmp_path: Path):
    """The step is a number of Python in some, an array in others."""
    path, states = tmp_path / "m.dcz", _states()
    dc.save(path, dc.compress(states[saved], []))
    loaded = dc.load(path, like=states[like])
    assert jax.tree.structure(loaded) == jax.tree.structure(states[like])
    assert int(loaded.step) == int(states[saved].step)
    for a, b in zip(*map(jax.tree.leaves, (loaded, states[saved])), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", ["bool", "int8", "uint32", "float16", "complex64"])
@pytest.mark.parametrize("number", [True, 2, 0.5, 1j])
@pytest.mark.parametrize("weak", [False, True])
def test_a_number_stands_for_its_kind_only(
    kind: str, number: Any, weak: bool, tmp_path: Path
):
    path, stored = tmp_path / "m.dcz", np.ones((), kind)
    dc.save(path, dc.compress({"a": stored}, []))
    like = {"a": jnp.asarray(number) if weak else number}
    kinds = {bool: "b", int: "iu", float: "f", complex: "c"}
    if stored.dtype.kind in kinds[type(number)]:
        assert dc.load(path, like=like)["a"].dtype == stored.dtype
    else:
        with pytest.raises(ValueError, match=f"a: {kind}.. in the file, "):
            dc.load(path, like=like)
    with pytest.raises(ValueError, match=r"\[\] in the file, .*\[1\] in `like`"):
        dc.load(path, like={"a": jnp.ones(1, kind)})


@pytest.mark.parametrize("order", [">", "<"])
@pytest.mark.parametrize(
    ("rules", "kind"),
    [
        *itertools.product(["default", "none"], ["f2", "f4", "i2", "u4", "c8", "b1"]),
        *itertools.product(["prune", "share", "both"], ["f2", "f4"]),
    ],
)
def test_both_byte_orders_are_the_same(
    order: str, rules: str, kind: str, tmp_path: Path
):
    rng = np.random.default_rng(0)
    drawn = np.where(rng.random((20, 30)) < 0.5, 0, 100 * rng.standard_normal((20, 30)))
    steps = {"prune": (prune.by_std(1), None), "share": (None, share.kmeans(4))}
    steps["both"] = prune.by_std(1), share.kmeans(4)
    # The same array but for its bytes; `=` is the order of this machine.
    files = []
    for each in (order, "="):
        tree = {
            "w": drawn.astype(kind).astype(each + kind),
            "x": np.ones(3, each + kind),
        }
        given = [dc.Rule("w", *steps[rules])] if rules in steps else []
        path = tmp_path / "m.dcz"
        importance = {"w": np.abs(drawn).astype(each + "f4") + 1, "x": tree["x"]}
        dc.save(
            path,
            dc.compress(
                tree,
                None if rules == "default" else given,
                importance=importance if rules in steps else None,
            ),
        )
        files.append(path.read_bytes())
        for place in (None, jax.devices()[0]):
            laws.assert_identical(dc.load(path, like=tree, device=place), dc.load(path))
    assert files[0] == files[1]


def test_what_was_compressed_does_not_change_with_its_source():
    bias = np.arange(5, dtype=np.float32)
    compressed = dc.compress({"b": bias}, [])
    bias[:] = 0
    assert dc.decompress(compressed)["b"].tolist() == [0, 1, 2, 3, 4]


_ONE_BYTE = [dtype for dtype in container.DTYPES if dtype.itemsize == 1]


@pytest.mark.spec("C39", "C53")
@pytest.mark.parametrize("kept", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("spread", [0.5, 20, 1e6])
@pytest.mark.parametrize("dtype", _ONE_BYTE, ids=str)
def test_values_of_one_byte_keep_every_bit_and_are_coded_if_that_is_smaller(
    dtype: np.dtype, spread: float, kept: float, tmp_path: Path
):
    rng = np.random.default_rng(0)
    words = (spread * rng.standard_normal((40, 50))).round().astype(np.int64) % 256
    words = np.where(rng.random((40, 50)) < kept, words, 0).astype(np.uint8)
    if dtype.kind == "b":
        words %= 2
    variables = {"w": words.view(dtype), "again": words[::-1].view(dtype)}
    path, plain = tmp_path / "m.dcz", tmp_path / "plain.dcz"
    size = dc.save(path, dc.compress(variables))
    laws.assert_identical(dc.load(path), variables)
    laws.assert_identical(dc.load(path, device=jax.devices()[0]), variables)
    leaves = DenseLeaf(variables["again"]), DenseLeaf(variables["w"])
    plainly = Compressed({"again": 0, "w": 1}, leaves, ())
    assert size <= dc.save(plain, plainly)
    present = np.unique(words, return_counts=True)[1] / words.size
    bits = -(present * np.log2(present)).sum()  # at which a code could come, for each
    assert size <= 2 * words.size * max(bits, 0.01) / 8 * 1.1 + 700
    counted = dc.report(path)
    assert counted.nonzero == 2 * np.count_nonzero(words.view(dtype))


@st.composite
def few_valued(draw: st.DrawFn) -> np.ndarray:
    """Weights of a quantized network: whole numbers times steps, some of them zero."""
    dtype = draw(st.sampled_from(container.DTYPES[9:13]))
    shape = draw(st.sampled_from([(40, 50), (3, 3, 16, 20), (600,), (5, 5), (70_000,)]))
    levels = draw(st.sampled_from([1, 2, 15, 127, 600]))
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    whole = rng.integers(-levels, levels + 1, shape)
    whole[rng.random(shape) < draw(st.sampled_from([0.0, 0.9]))] = 0
    strange = draw(st.sampled_from([0.0, -0.0, np.nan, np.inf, -2.5]))
    values = (whole * draw(st.sampled_from([0.1, 1e-6]))).astype(dtype)
    values.ravel()[rng.integers(values.size)] = strange
    return values


@pytest.mark.spec("C39", "C53")
@given(few_valued())
def test_floats_of_few_values_keep_every_bit_and_are_coded_if_that_is_smaller(
    values: np.ndarray,
):
    data = dc.dumps(dc.compress({"w": values}, []))
    laws.assert_identical(dc.loads(data), {"w": values})
    plainly = Compressed({"w": 0}, (DenseLeaf(values),), ())
    assert len(data) <= len(dc.dumps(plainly))
    is_odd = ~np.isfinite(values) | (np.signbit(values) & (values == 0))
    _, counts = np.unique(values, return_counts=True)
    if not is_odd.any() and values.size > 30 * counts.size:
        shares = counts / values.size
        bits = values.size * max(-(shares * np.log2(shares)).sum(), 0.01)
        assert len(data) <= 1.1 * bits / 8 + (4 + values.itemsize) * counts.size + 300


@pytest.mark.parametrize("dtype", [np.int8, np.float32])
@pytest.mark.parametrize("coding", ["packed", "relative"])
def test_values_that_are_coded_unasked_are_so_as_a_rule_says(dtype: type, coding: str):
    values = {"w": np.random.default_rng(0).integers(-3, 4, (40, 50)).astype(dtype)}
    compressed = dc.compress(values, [Rule("w", coding=coding)])
    assert [leaf.coding for leaf in compressed.leaves] == [coding]
    laws.assert_identical(dc.loads(dc.dumps(compressed)), values)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_distinct_values_of_half_precision_are_each_found_once(dtype: np.dtype):
    """Also where so many are equal that NumPy does not sort them rightly."""
    rng = np.random.default_rng(0)
    values = (rng.normal(0, 40, 100_000).round() * 0.01).astype(dtype)
    found = share.distinct(values[values != 0], None)
    assert sorted(set(values[values != 0].tolist())) == found.tolist()


@pytest.mark.spec("W5")
@pytest.mark.parametrize("name", ["kernel", "embedding"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_the_default_changes_nothing_that_it_rounded_before(name: str, dtype: type):
    rng = np.random.default_rng(0)
    tree = {name: (rng.standard_normal((300, 200)) ** 3 / 9).astype(dtype)}
    once = dc.dumps(dc.compress(tree))
    again = dc.dumps(dc.compress(dc.loads(once)))
    assert once == again
    signs = {name: np.where(tree[name] > 0, tree[name].max() / 3, 0).astype(dtype)}
    laws.assert_identical(dc.loads(dc.dumps(dc.compress(signs))), signs)
    whole = rng.normal(0, 40, (300, 200)).clip(-127, 127).round() + 0.0
    quantized = {name: (whole * 0.01).astype(dtype)}
    laws.assert_identical(dc.loads(dc.dumps(dc.compress(quantized))), quantized)
    assert (dc.loads(once)[name] != tree[name]).any()


@pytest.mark.spec("C39")
@pytest.mark.parametrize("coding", ["packed", "relative"])
@pytest.mark.parametrize("dtype", container.DTYPES[15:], ids=str)
def test_every_float8_comes_back_from_a_device_that_rounds_nan(
    dtype: np.dtype, coding: str, tmp_path: Path
):
    """Whatever decodes there, all 256 values keep their bits, quiet NaNs or not."""
    words = np.random.default_rng(0).integers(0, 256, (90, 70)).astype(np.uint8)
    labels, book = byte_codebooks.shared(words.view(dtype))
    leaf = SharedLeaf(labels, 0, coding)
    path = tmp_path / "m.dcz"
    dc.save(path, Compressed({"w": 0}, (leaf,), (book,)))
    loaded = dc.load(path, device=jax.devices()[0])["w"]
    assert loaded.dtype == dtype
    assert np.asarray(loaded).tobytes() == words.tobytes()


@pytest.mark.parametrize("dtype", container.DTYPES[15:], ids=str)
def test_float8_can_be_shared(dtype: np.dtype, tmp_path: Path):
    rng = np.random.default_rng(0)
    weights = {"w": jnp.asarray(rng.standard_normal((30, 20)), dtype)}
    rules = [dc.Rule("w", prune.by_magnitude(0.5), share.kmeans(4))]
    compressed = dc.compress(weights, rules)
    dc.save(tmp_path / "m.dcz", compressed)
    loaded = dc.load(tmp_path / "m.dcz")
    laws.assert_identical(loaded, dc.decompress(compressed))
    values = loaded["w"].astype(np.float32)
    assert np.count_nonzero(values) == 300
    codebook = np.unique(values[values != 0])
    assert len(codebook) == 4
    moved = np.abs(np.asarray(weights["w"], np.float32) - values)[values != 0]
    distances = np.abs(np.asarray(weights["w"], np.float32)[..., None] - codebook)
    np.testing.assert_array_equal(moved, distances.min(axis=-1)[values != 0])


@pytest.mark.parametrize("dtype", container.DTYPES[15:], ids=str)
def test_float8_can_be_pruned_by_deviation_and_looked_up(dtype: np.dtype):
    rng = np.random.default_rng(0)
    weights = {"w": jnp.asarray(rng.standard_normal((30, 20)), dtype)}
    rules = [dc.Rule("w", prune.by_std(1.0), share.kmeans(4))]
    shared = share.share(prune.apply(weights, prune.masks(weights, rules)), rules)
    found = jax.device_get(share.lookup(shared))
    laws.assert_identical(found, dc.decompress(dc.compress(weights, rules)))
    wide = np.asarray(weights["w"], np.float32)
    kept = np.abs(wide) > wide.std()
    np.testing.assert_array_equal(found["w"].astype(np.float32) != 0, kept)


def test_random_keys_of_nnx_are_named():
    model = nnx.Dropout(0.5, rngs=nnx.Rngs(0))
    tree = {"kernel": jnp.ones((3, 4)), "drop": nnx.state(model)}
    with pytest.raises(ValueError, match="'drop/rngs/key' is a random key"):
        dc.compress(tree)
    tree["drop"] = nnx.state(model, nnx.Not(nnx.RngState))
    assert dc.decompress(dc.compress(tree))["kernel"].shape == (3, 4)


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
        ({"pattern": "w", "coding": "order0"}, "'w': coding='order0' has no effect, s"),
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
    shared = share.share(variables, [Rule("w", share=share.kmeans(2))])
    for rules in (
        [dc.Rule("v", coding=coding), dc.Rule("w", coding=coding)],
        [dc.Rule("w"), dc.Rule(".", coding=coding)],
    ):
        with pytest.raises(ValueError, match=f"coding='{coding}' has no effect"):
            dc.pack(shared, rules)
    with pytest.raises(ValueError, match="pattern 'x' matches no leaf"):
        dc.pack(shared, [dc.Rule("x", coding=coding)])
    with pytest.raises(ValueError, match="rule 2 of pattern 'w' has no effect"):
        dc.pack(shared, [dc.Rule("."), dc.Rule("w", coding=coding)])
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
    shared = share.share({"w": jnp.arange(6.0)}, [Rule("w", share=share.kmeans(5))])
    lost = share.replace_codebooks(shared, {"w": jnp.full(5, jnp.nan)})
    with pytest.raises(ValueError, match="group 'w' holds NaN or infinity"):
        dc.pack(lost)
    with pytest.raises(ValueError, match=r"no groups \['v'\]: there are \['w'\]"):
        share.replace_codebooks(shared, {"v": jnp.ones(5)})


@pytest.mark.spec("S24")
@pytest.mark.parametrize("other", [jnp.ones(4), jnp.ones(5, jnp.bfloat16)])
def test_codebooks_of_another_shape_or_dtype(other: jax.Array):
    shared = share.share({"w": jnp.arange(6.0)}, [Rule("w", share=share.kmeans(5))])
    with pytest.raises(ValueError, match=r"codebook of 'w' is float32\[5\], not"):
        share.replace_codebooks(shared, {"w": other})


def test_too_many_clusters():
    values = jnp.arange(1, 40001, dtype=jnp.float32)
    with pytest.raises(ValueError, match="'w' has 40000 entries, above 32768"):
        share.share({"w": values}, [Rule("w", share=share.distinct)])


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


@pytest.mark.parametrize("like", [False, True])
@pytest.mark.parametrize("place", [None, jax.devices()[0]])
def test_a_header_is_read_once(
    like: bool, place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path, variables = tmp_path / "m.dcz", {"a": np.zeros(3, np.float32)}
    dc.save(path, dc.compress(variables, []))
    read: list[int] = []
    get = file_header.get

    def counted(data: bytes) -> records.Header:
        read.append(len(data))
        return get(data)

    monkeypatch.setattr(file_header, "get", counted)
    dc.load(path, variables if like else None, device=place)
    assert len(read) == 1


def test_fine_tuned_codebooks_are_put_in_order():
    """Fine-tuning swapped two entries, merged two and moved one to zero."""
    weights = {"w": jnp.array([1.0, 2.0, 3.0, 4.0, 5.0, 0.0])}
    shared = share.share(weights, [Rule("w", share=share.kmeans(5))])
    moved = share.replace_codebooks(shared, {"w": jnp.array([2.0, 1.0, 7.0, 7.0, 0.0])})
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


def _as_stored(node: Any) -> Any:
    """Plain containers and keys, integers first, as a file has them."""
    if isinstance(node, dict):
        keys = {(k[:] if isinstance(k, str) else int(k)): k for k in node}
        order = sorted(keys, key=lambda key: (isinstance(key, str), key))
        return {key: _as_stored(node[keys[key]]) for key in order}
    if isinstance(node, (list, tuple)):
        return type(node)(map(_as_stored, node))
    return node


def _spelled(node: Any) -> Any:
    """A tree with the types of its containers and keys, and its leaves as lists."""
    if isinstance(node, dict):
        items = [(type(k), k, _spelled(child)) for k, child in node.items()]
        return type(node), sorted(items, key=str)
    if isinstance(node, (list, tuple)):
        return type(node), [_spelled(child) for child in node]
    return None if node is None else np.asarray(node).tolist()


@settings(max_examples=40)
@given(st.data())
def test_keys_of_every_type_and_mixed(data: st.DataObject):
    count = itertools.count()
    leaf = st.builds(lambda: np.arange(3, dtype=np.int32) + next(count)) | st.none()
    tree = data.draw(strategies.nested(leaf))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.dcz"
        dc.save(path, dc.compress(tree, []))
        for place in (None, jax.devices()[0]):
            loaded = dc.load(path, device=place)
            assert _spelled(loaded) == _spelled(_as_stored(tree))
            back = dc.load(path, like=tree, device=place)
            assert _spelled(back) == _spelled(tree)


def test_mixed_keys_with_rules_and_importance():
    """The same as in a tree whose keys are all strings."""
    rng = np.random.default_rng(0)
    one, two = rng.standard_normal((2, 9, 9)).astype(np.float32)
    rules = [dc.Rule("", prune.by_magnitude(0.5), share.kmeans(4))]

    def decoded(outer: Any, inner: Any) -> Any:
        trees = [{"a": x, outer: {inner: y, "b": None}} for x, y in pairs]
        return dc.decompress(dc.compress(trees[0], rules, importance=trees[1]))

    pairs = (one, two), (one**2, two**2)
    found, expected = decoded(True, 3), decoded("1", "3")
    np.testing.assert_array_equal(found["a"], expected["a"])
    np.testing.assert_array_equal(found[1][3], expected["1"]["3"])


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
        laws.assert_identical(loaded, expected)
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


@pytest.mark.parametrize(
    "dtype",
    ["float4_e2m1fn", "float6_e2m3fn", "float8_e3m4", "float8_e8m0fnu", "int4"],
)
@pytest.mark.parametrize("rules", [None, [Rule("w", share=share.kmeans(2))]])
def test_dtypes_that_no_file_can_hold_are_refused_at_once(dtype: str, rules: Any):
    variables = {"w": np.ones((3, 4), np.float32).astype(getattr(ml_dtypes, dtype))}
    with pytest.raises(ValueError, match=f"leaf 'w' is {dtype}: convert it to one of"):
        dc.compress(variables, rules)


def test_a_dtype_of_numpy_alone_is_refused_by_name():
    variables = {"w": np.ones((3, 4), "datetime64[s]")}
    with pytest.raises(ValueError, match=r"'w' is datetime64\[s\]: convert it to one"):
        dc.compress(variables)
