"""Sums over products are those by hand, wherever a product is and however it is put."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import deepcomp_jax as dc
from tests.support import sums
from tests.support.sums import plain, seen_dense

R = sums.random()
X = R(5, 3)


def test_a_dense_layer(monkeypatch):
    def ref(p, x, see):
        h = jnp.tanh(seen_dense("w", see, x, p["w"]) + p["b"][None])
        return seen_dense("v", see, h, p["v"])

    params = {"w": R(3, 4), "b": R(4), "v": R(4, 2)}
    found = sums.check(monkeypatch, plain(ref), ref, params, X)
    assert found.notes == ()
    assert found.examples == 10
    use = found.leaves["w"][0]
    assert use[:4] == ("product", (), (0,), (1,)) and use.count == 10
    assert use.input_moments.dtype == use.output_moments.dtype == np.float32


def test_only_diagonals_of_what_is_large(monkeypatch):
    def ref(p, x, see):
        return seen_dense("w", see, x, p["w"])

    params = {"w": R(3, 4)}
    found = sums.check(monkeypatch, plain(ref), ref, params, X, max_gram=3)
    (use,) = found.leaves["w"]
    assert (use.input_moments.shape, use.output_moments.shape) == ((3, 3), (4,))
    found = sums.check(monkeypatch, plain(ref), ref, params, X, max_gram=2)
    assert found.leaves["w"][0].input_moments.shape == (3,)


@pytest.mark.parametrize(
    "spec", ["bi,io->bo", "bi,oi->bo", "io,bi->bo", "oi,bi->ob", "io,bi->ob"]
)
def test_either_operand_and_any_order(monkeypatch, spec):
    weights = [term for term in spec.partition("->")[0].split(",") if "b" not in term]
    shape = {"i": 3, "o": 4}
    params = {"w": R(*(shape[letter] for letter in weights[0]))}

    def fn(p, x):
        operands = (p["w"], x) if spec.startswith(weights[0]) else (x, p["w"])
        return jnp.einsum(spec, *operands)

    def ref(p, x, see):
        w = p["w"] if weights[0] == "io" else p["w"].T
        y = seen_dense("w", see, x, w)
        return y if spec.endswith("bo") else y.T

    found = sums.check(monkeypatch, fn, ref, params, X)
    assert found.leaves["w"][0].inputs == (weights[0].index("i"),)


STRUCTURE = {
    "transposed": (lambda w: w.T, (4, 3)),
    "reshaped": (lambda w: w.reshape(3, 4), (3, 2, 2)),
    "reshaped both": (lambda w: w.transpose(2, 0, 1).reshape(3, 4), (2, 2, 3)),
    "cast": (lambda w: w.astype(jnp.float16).astype(jnp.float32), (3, 4)),
    "flipped": (lambda w: w[::-1, ::-1], (3, 4)),
    "strided": (lambda w: w[1::2, :], (6, 4)),
    "sliced": (lambda w: w[2:5, 1:5], (6, 6)),
    "row": (lambda w: w[3], (5, 3, 4)),
    "scaled": (lambda w: 0.5 * -w / jnp.sqrt(4.0), (3, 4)),
    "squeezed": (lambda w: w[None, :, 0], (3, 1, 4)),
    "stopped twice": (lambda w: lax.optimization_barrier(w), (3, 4)),
    "shifted": (lambda w: w - jnp.ones((3, 4)), (3, 4)),
    "unstacked": (lambda w: jnp.unstack(w)[1], (2, 3, 4)),
    "second half": (lambda w: jnp.split(w, 2, axis=1)[1], (3, 8)),
    "broadcast": (lambda w: jnp.broadcast_to(w[None], (2, 3, 4))[1], (3, 4)),
}


@pytest.mark.parametrize("name", STRUCTURE)
def test_what_is_still_the_leaf(monkeypatch, name):
    change, shape = STRUCTURE[name]
    params = {"w": R(*shape)}
    made = np.asarray(change(params["w"])).reshape(change(params["w"]).shape[-2:])
    x = R(4, made.shape[0])
    monkeypatch.setattr(sums.gradients, "projected", sums.known_signs)
    found = dc.calibrate(
        lambda p, x: x @ change(p["w"]).reshape(made.shape), params, [x]
    )
    assert found.notes == ()
    (use,) = found.leaves["w"]
    # Each weight of the product is one value of the leaf, times a number.
    jacobian = np.asarray(jax.jacobian(change)(params["w"])).reshape(made.size, -1)
    assert ((jacobian != 0).sum(axis=1) == 1).all()
    where = np.unravel_index(np.abs(jacobian).argmax(axis=1), shape)
    scale = np.abs(jacobian).max()
    where = np.array(where).reshape(-1, *made.shape)
    a, g = np.zeros(use.input_moments.shape), np.zeros(use.output_moments.shape)
    index = tuple(where[axis, 0, 0] for axis in use.batch)
    inputs = flat(where[:, :, 0], use.inputs, shape)
    outputs = flat(where[:, 0], use.outputs, shape)
    a[index][np.ix_(inputs, inputs)] = scale**2 * x.T @ x
    numbers = np.cos(np.arange(4 * made.shape[1]) * 1.7).reshape(4, -1)
    g[index][np.ix_(outputs, outputs)] = numbers.T @ numbers
    sums.close(use.input_moments, a, 1e-3)
    sums.close(use.output_moments, g, 1e-3)


def flat(where, axes, shape):
    """Indices along some axes of a leaf as one in C order."""
    own = tuple(where[axis] for axis in axes)
    return np.ravel_multi_index(own, tuple(shape[axis] for axis in axes))


def test_parts_used_apart_are_blocks(monkeypatch):
    """A fused projection that is cut before its products."""

    def fn(p, x):
        q, k = p["w"][:, :4], p["w"][:, 4:]
        return (x @ q) * jnp.sin(x @ k)

    monkeypatch.setattr(sums.gradients, "projected", sums.known_signs)
    params = {"w": R(3, 8)}
    (use,) = dc.calibrate(fn, params, [X]).leaves["w"]
    np.testing.assert_allclose(use.input_moments, 2 * X.T @ X, rtol=1e-4)
    assert use.count == 10
    q, k = np.split(X @ params["w"], 2, axis=1)
    v = np.cos(np.arange(20) * 1.7).reshape(5, 4)
    want = np.zeros((8, 8))
    for part, g in enumerate((v * np.sin(k), v * q * np.cos(k))):
        block = slice(4 * part, 4 * part + 4)
        want[block, block] = g.T @ g
    sums.close(use.output_moments, want, 1e-4)


def test_leaves_side_by_side(monkeypatch):
    """One product with several leaves, as in an LSTM cell of Flax."""

    def fn(p, x):
        w = jnp.concatenate([p["a"], p["b"]], axis=1)
        h = jnp.concatenate([x @ w, x], axis=1)
        return jnp.tanh(h) @ jnp.concatenate([p["c"], p["d"].T], axis=0)

    def ref(p, x, see):
        a = seen_dense("a", see, x, p["a"])
        b = seen_dense("b", see, x, p["b"])
        h = jnp.tanh(jnp.concatenate([a, b], axis=1))
        c = seen_dense("c", see, h, p["c"])
        return c + seen_dense("d", see, jnp.tanh(x), p["d"].T)

    params = {"a": R(3, 2), "b": R(3, 4), "c": R(6, 2), "d": R(2, 3)}
    assert sums.check(monkeypatch, fn, ref, params, X).notes == ()


def test_stacked_leaves(monkeypatch):
    def fn(p, x):
        w = jnp.stack([p["a"], p["b"]])
        return jnp.einsum("bi,eio->ebo", x, w)

    def ref(p, x, see):
        return jnp.stack([seen_dense(name, see, x, p[name]) for name in "ab"])

    params = {"a": R(3, 2), "b": R(3, 2)}
    assert sums.check(monkeypatch, fn, ref, params, X).notes == ()


def test_attention(monkeypatch):
    def fn(p, x):
        q, k, v = (jnp.einsum("btd,dhk->bthk", x, p[name]) for name in "qkv")
        weights = jax.nn.softmax(jnp.einsum("bthk,bshk->bhts", q, k))
        y = jnp.einsum("bhts,bshk->bthk", weights, v)
        return jnp.einsum("bthk,hkd->btd", y, p["o"])

    def ref(p, x, see):
        def heads(name):
            y = seen_dense(name, see, x, p[name].reshape(3, 8))
            return y.reshape(2, 4, 2, 4)

        q, k, v = map(heads, "qkv")
        weights = jax.nn.softmax(jnp.einsum("bthk,bshk->bhts", q, k))
        y = jnp.einsum("bhts,bshk->bthk", weights, v).reshape(2, 4, 8)
        return seen_dense("o", see, y, p["o"].reshape(8, 3))

    params = {**{name: R(3, 2, 4) for name in "qkv"}, "o": R(2, 4, 3)}
    found = sums.check(monkeypatch, fn, ref, params, R(2, 4, 3))
    assert found.notes == ()
    assert found.leaves["q"][0][1:4] == ((), (0,), (1, 2))
    assert found.leaves["o"][0][1:4] == ((), (0, 1), (2,))


def rows_of(leaf, see, table, ids, use):
    """A look-up as the product with one-hot rows, of which the diagonal counts."""
    hot = jax.nn.one_hot(ids % len(table), len(table))
    return see((leaf, use, ()), hot, table[ids])


def test_an_embedding_tied_to_the_output(monkeypatch):
    def fn(p, ids):
        return jnp.tanh(p["e"][ids]) @ p["e"].T

    def ref(p, ids, see):
        h = jnp.tanh(rows_of("e", see, p["e"], ids, 1))
        return seen_dense("e", see, h, p["e"].T)

    ids = np.array([[1, 6, 1], [-2, 0, 3]])
    found = sums.check(monkeypatch, fn, ref, {"e": R(7, 4)}, ids)
    product, table = found.leaves["e"]
    assert product[:4] == ("product", (), (1,), (0,))
    assert table[:4] == ("table", (), (0,), (1,))
    assert table.input_moments.tolist() == [2, 4, 0, 2, 0, 2, 2]
    assert table.count == 12


@pytest.mark.parametrize("mode", ["clip", "fill"])
def test_rows_out_of_a_table(monkeypatch, mode):
    def fn(p, ids):
        return jnp.take(p["e"], ids, axis=1, mode=mode, fill_value=0)

    monkeypatch.setattr(sums.gradients, "projected", sums.known_signs)
    found = dc.calibrate(fn, {"e": R(2, 5)}, [np.array([0, 9, 4, -1])])
    (use,) = found.leaves["e"]
    assert use[1:4] == ((), (1,), (0,))
    # An index below 0 is clipped to 0, and counts from the end otherwise.
    want = [2, 0, 0, 0, 2] if mode == "clip" else [1, 0, 0, 0, 2]
    assert use.input_moments.tolist() == want


def test_a_table_of_two_indices(monkeypatch):
    def fn(p, ids):
        return p["e"][ids, ids[::-1]]

    found = dc.calibrate(fn, {"e": R(3, 4, 2)}, [np.array([0, 2, 2])])
    (use,) = found.leaves["e"]
    assert use[:4] == ("table", (), (0, 1), (2,))
    want = np.zeros((3, 4))
    want[0, 2], want[2, 2], want[2, 0] = 1, 1, 1
    assert use.input_moments.reshape(3, 4).tolist() == want.tolist()


def test_positions_that_no_data_choose(monkeypatch):
    def fn(p, x):
        return x + p["e"][jnp.arange(3) + 1]

    (use,) = dc.calibrate(fn, {"e": R(6, 3)}, [R(3, 3)]).leaves["e"]
    assert use.input_moments.tolist() == [0, 1, 1, 1, 0, 0]
    assert use.output_moments.shape == (3, 3)


def test_one_hot_products_count_rows(monkeypatch):
    def fn(p, ids):
        return jax.nn.one_hot(ids, 5) @ p["e"]

    found = dc.calibrate(fn, {"e": R(5, 2)}, [np.array([1, 1, 4])], max_gram=4)
    (use,) = found.leaves["e"]
    assert use.input_moments.tolist() == [0, 2, 0, 0, 1]


def test_experts(monkeypatch):
    """Each expert has moments of its own, weighted by its gate."""

    def fn(p, x):
        gates = jax.nn.softmax(x @ p["router"])
        h = jax.nn.relu(jnp.einsum("bd,edh->ebh", x, p["up"]))
        y = jnp.einsum("be,ebh->ebh", gates, h)
        return jnp.einsum("ebh,ehd->bd", y, p["down"])

    def ref(p, x, see):
        gates = jax.nn.softmax(seen_dense("router", see, x, p["router"]))
        up = see(("up", 0, ()), x, x @ p["up"].transpose(1, 0, 2).reshape(3, 8))
        h = jax.nn.relu(up.reshape(5, 2, 4))
        y = gates[:, :, None] * h
        return seen_dense("down", see, y.reshape(5, 8), p["down"].reshape(8, 3))

    params = {"router": R(3, 2), "up": R(2, 3, 4), "down": R(2, 4, 3)}
    found = sums.check(monkeypatch, fn, ref, params, X)
    # They see the same inputs and their results are added: no batch of products.
    assert found.leaves["up"][0][1:4] == ((), (1,), (0, 2))
    assert found.leaves["down"][0][1:4] == ((), (0, 1), (2,))


def test_experts_that_are_sent_different_examples(monkeypatch):
    def fn(p, x):
        return jnp.einsum("ecd,edh->ech", jnp.stack([x[:2], x[2:4]]), p["w"])

    def ref(p, x, see):
        parts = (x[:2], x[2:4])
        return jnp.stack(
            [
                seen_dense("w", see, part, p["w"][e], (e,))
                for e, part in enumerate(parts)
            ]
        )

    found = sums.check(monkeypatch, fn, ref, {"w": R(2, 3, 4)}, X)
    assert found.leaves["w"][0].batch == (0,)
    assert found.sensitivity["w"].shape == (2,)


def test_experts_chosen_by_data(monkeypatch):
    def fn(p, x):
        which = jnp.where(x.sum(axis=1) > 0, 1, 0)
        return jax.vmap(lambda x, w: x @ w)(x, p["w"][which])

    found = dc.calibrate(fn, {"w": R(2, 3, 4)}, [X])
    (use,) = found.leaves["w"]
    chosen = (X.sum(axis=1) > 0).sum()
    assert use[:4] == ("table", (), (0,), (1, 2))
    assert use.input_moments.tolist() == [5 - chosen, chosen]


def test_one_expert_for_all_chosen_by_data(monkeypatch):
    def fn(p, x):
        return x @ p["w"][(x.sum() > 0).astype(int)]

    (use,) = dc.calibrate(fn, {"w": R(2, 3, 4)}, [X]).leaves["w"]
    which = int(X.sum() > 0)
    np.testing.assert_allclose(use.input_moments[which], X.T @ X, rtol=1e-5)
    assert not use.input_moments[1 - which].any()


def test_vmapped_weights_with_an_input_in_common(monkeypatch):
    def fn(p, x):
        return jax.vmap(lambda w: x @ w)(p["w"])

    def ref(p, x, see):
        y = see(("w", 0, ()), x, x @ p["w"].transpose(1, 0, 2).reshape(3, 8))
        return y.reshape(5, 2, 4).transpose(1, 0, 2)

    found = sums.check(monkeypatch, fn, ref, {"w": R(2, 3, 4)}, X)
    assert found.leaves["w"][0][1:4] == ((), (1,), (0, 2))


def test_weights_repeated_for_each_example(monkeypatch):
    def fn(p, x):
        return jax.vmap(lambda x, w: x @ w)(x, jnp.repeat(p["w"][None], 5, axis=0))

    def ref(p, x, see):
        return seen_dense("w", see, x, p["w"])

    assert sums.check(monkeypatch, fn, ref, {"w": R(3, 4)}, X).notes == ()


def test_sums_of_repeated_inputs(monkeypatch):
    """A weight that several inputs and outputs share meets the sums of them."""

    def fn(p, x):
        return jnp.tanh(x @ jnp.tile(p["w"], (2, 3)))

    def ref(p, x, see):
        x = x[:, :3] + x[:, 3:]
        return jnp.tanh(jnp.tile(seen_dense("w", see, x, p["w"]), (1, 3)))

    assert sums.check(monkeypatch, fn, ref, {"w": R(3, 2)}, R(5, 6)).notes == ()


def test_bfloat16(monkeypatch):
    def fn(p, x):
        w, x = p["w"].astype(jnp.bfloat16), x.astype(jnp.bfloat16)
        return (x @ w).astype(jnp.float32)

    def ref(p, x, see):
        w, x = p["w"].astype(jnp.bfloat16), x.astype(jnp.bfloat16)
        return see(("w", 0, ()), x, x @ w).astype(jnp.float32)

    found = sums.check(monkeypatch, fn, ref, {"w": R(3, 4)}, X, tolerance=2e-2)
    assert found.notes == ()


def test_lora_beside_its_weight(monkeypatch):
    def fn(p, x):
        return x @ p["w"] + 0.5 * ((x @ p["a"]) @ p["b"])

    def ref(p, x, see):
        h = seen_dense("a", see, x, p["a"])
        return seen_dense("w", see, x, p["w"]) + 0.5 * seen_dense("b", see, h, p["b"])

    params = {"w": R(3, 4), "a": R(3, 2), "b": R(2, 4)}
    assert sums.check(monkeypatch, fn, ref, params, X).notes == ()


def test_lora_merged_into_its_weight(monkeypatch):
    """The sum is linear in the weight, but a product in the rest."""

    def fn(p, x):
        return x @ (p["w"] + p["a"] @ p["b"])

    def ref(p, x, see):
        return see(("w", 0, ()), x, x @ (p["w"] + p["a"] @ p["b"]))

    params = {"w": R(3, 4), "a": R(3, 2), "b": R(2, 4)}
    assert sums.check(monkeypatch, fn, ref, params, X).notes == (
        "a: not followed: dot_general, then dot_general with data",
        "b: not followed: dot_general, then dot_general with data",
    )


def test_a_function_must_come_first():
    with pytest.raises(TypeError, match="`fn` is dict: give the function first"):
        dc.calibrate({"w": jnp.ones(3)}, lambda p, x: x, [])  # type: ignore
