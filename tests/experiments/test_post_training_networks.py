"""The networks of the benchmark: what they compute, and what their weights see."""

import doctest
from pathlib import Path
from types import ModuleType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.models.lenet import LeNet5
from experiments.models.vgg import VGG19
from experiments.post_training import (
    images,
    minilm,
    networks,
    sentences,
    silero,
    sounds,
    wordpiece,
)
from experiments.post_training.networks import Network
from experiments.training import states
from experiments.training.train import TrainState, normalize, sgd

RNG = np.random.default_rng(0)


def _normal(*shape: int, scale: float = 0.3) -> np.ndarray:
    return (scale * RNG.normal(size=shape)).astype(np.float32)


def _bert(layers: int, width: int = 64, words: int = 50) -> dict[str, np.ndarray]:
    """Parameters of a small BERT, by the names of the wheel."""
    params = {
        "embeddings.word_embeddings.weight": _normal(words, width),
        "embeddings.position_embeddings.weight": _normal(64, width),
        "embeddings.token_type_embeddings.weight": _normal(2, width),
    }
    for i in range(layers):
        own = f"encoder.layer.{i}"
        shapes = {f"attention.self.{n}": (width, width) for n in ("query", "key")}
        shapes |= {"attention.self.value": (width, width)}
        shapes |= {"attention.output.dense": (width, width)}
        shapes |= {"intermediate.dense": (2 * width, width)}
        shapes |= {"output.dense": (width, 2 * width)}
        for name, shape in shapes.items():
            params[f"{own}.{name}.weight"] = _normal(*shape, scale=0.2)
            params[f"{own}.{name}.bias"] = _normal(shape[0])
    norms = ["embeddings.LayerNorm"]
    for part in ("attention.output", "output"):
        norms += [f"encoder.layer.{i}.{part}.LayerNorm" for i in range(layers)]
    for name in norms:
        params[f"{name}.weight"] = 1 + _normal(width)
        params[f"{name}.bias"] = _normal(width)
    return params


def _silero() -> dict[str, np.ndarray]:
    """Parameters of a small silero-vad: of fewer channels."""
    params = {"stft_conv.weight": _normal(18, 1, 256, scale=0.1)}
    channels = (9, 8, 4, 4, 6)
    for i, (into, out) in enumerate(zip(channels, channels[1:], strict=False), 1):
        params[f"conv{i}.weight"] = _normal(out, into, 3)
        params[f"conv{i}.bias"] = _normal(out)
    for name in ("ih", "hh"):
        params[f"lstm_cell.weight_{name}"] = _normal(24, 6)
        params[f"lstm_cell.bias_{name}"] = _normal(24)
    return params | {
        "final_conv.weight": _normal(1, 6, 1), "final_conv.bias": _normal(1)
    }  # fmt: skip


def _few_images(side: int, channels: int) -> np.ndarray:
    return RNG.integers(0, 256, (6, side, side, channels), np.uint8)


def _variables(model: nn.Module, own: np.ndarray) -> Any:
    """Those of a network whose statistics and biases are not those of a new one."""
    image = jnp.zeros((1, *own.shape[1:]))
    shapes = jax.eval_shape(model.init, jax.random.key(0), image)
    rng = np.random.default_rng(1)

    def drawn(leaf: Any) -> np.ndarray:
        if leaf.ndim == 1:
            return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        scale = (2 * leaf.shape[-1] / leaf.size) ** 0.5
        return rng.normal(0, scale, leaf.shape).astype(np.float32)

    return {"batch_stats": {}, **jax.tree.map(drawn, shapes)}


# Of each block of the VGG19 at least one convolution, of the first one two.
SMALL_VGG = VGG19(((4, 4), (5,), (6,), (6,), (7,)), (9, 8), dropout=0.0)
IMAGES = {
    "vgg19": (images.VGG19, SMALL_VGG, _few_images(32, 3)),
    "lenet5": (images.LENET5, LeNet5((3, 4), 10), _few_images(28, 1)),
}


# ---- what they compute --------------------------------------------------------------


@pytest.mark.parametrize("name", IMAGES)
def test_folded_networks_answer_as_those_that_were_trained(name: str):
    recipe, model, own = IMAGES[name]
    variables = _variables(model, own)
    fn, _ = networks.functions(recipe.forward)
    found = jax.jit(fn)(images.folded(variables), own)
    trained = {key: tree for key, tree in variables.items() if tree}
    right = np.asarray(jax.jit(model.apply)(trained, normalize(jnp.asarray(own))))
    np.testing.assert_allclose(found, right, rtol=0, atol=2e-5 * np.abs(right).max())
    assert np.ptp(right, axis=0).max() > 1e-3  # it depends on the image


def test_a_saved_phase_of_any_run_is_read(tmp_path: Path):
    _, model, own = IMAGES["vgg19"]
    variables = _variables(model, own)
    params = variables.pop("params")
    state = TrainState(params, variables, sgd().init(params))
    states.save(tmp_path / "dense.msgpack", states.Saved(1, [], state))
    found = images.read_phase(tmp_path / "dense.msgpack")
    same = jax.tree.map(np.array_equal, found, {"params": params, **variables})
    assert all(jax.tree.leaves(same))


def test_minilm_is_a_bert():
    """Against attention, norms and dense layers of Flax."""
    params = _bert(layers=2)
    ids = RNG.integers(0, 50, (3, 8)).astype(np.int32)
    mask = np.ones((3, 8), np.float32)
    mask[1, 5:] = mask[2, 2:] = 0
    fn, _ = networks.functions(minilm.forward)
    found = np.asarray(fn(params, minilm.Tokens(ids, mask)))

    def dense(name: str) -> dict[str, np.ndarray]:
        weight, bias = params[f"{name}.weight"], params[f"{name}.bias"]
        return {"kernel": weight.T, "bias": bias}

    def heads(name: str, *, out: bool = False) -> dict[str, np.ndarray]:
        own = dense(name)
        shape = (2, 32, 64) if out else (64, 2, 32)
        bias = own["bias"] if out else own["bias"].reshape(2, 32)
        return {"kernel": own["kernel"].reshape(shape), "bias": bias}

    def norm(name: str, x: Any) -> Any:
        own = {"scale": params[f"{name}.weight"], "bias": params[f"{name}.bias"]}
        return nn.LayerNorm(epsilon=1e-12).apply({"params": own}, x)

    words, places, types = (
        params[f"embeddings.{n}_embeddings.weight"]
        for n in ("word", "position", "token_type")
    )
    x = norm("embeddings.LayerNorm", words[ids] + places[None, :8] + types[0])
    seen = nn.make_attention_mask(mask > 0, mask > 0)
    for layer in ("encoder.layer.0", "encoder.layer.1"):
        own = {n: heads(f"{layer}.attention.self.{n}") for n in ("query", "key")}
        own["value"] = heads(f"{layer}.attention.self.value")
        own["out"] = heads(f"{layer}.attention.output.dense", out=True)
        attention = nn.MultiHeadDotProductAttention(num_heads=2)
        y = attention.apply({"params": own}, x, mask=seen)
        x = norm(f"{layer}.attention.output.LayerNorm", x + y)
        wide, narrow = f"{layer}.intermediate.dense", f"{layer}.output.dense"
        y = nn.Dense(128).apply({"params": dense(wide)}, x)
        y = nn.Dense(64).apply({"params": dense(narrow)}, nn.gelu(y, approximate=False))
        x = norm(f"{layer}.output.LayerNorm", x + y)
    for sentence, length in enumerate((8, 5, 2)):
        mean = np.asarray(x)[sentence, :length].mean(0)
        right = mean / np.linalg.norm(mean)
        np.testing.assert_allclose(found[sentence], right, rtol=0, atol=1e-5)


def test_silero_listens_to_pieces_in_order():
    """Against NumPy, a piece after the other, in float64."""
    params = _silero()
    sound = _normal(2, 5 * silero.PIECE, scale=1.0)
    fn, _ = networks.functions(silero.forward)
    found = np.asarray(jax.jit(fn)(params, sound))
    right = np.stack([_listen(params, own) for own in sound])
    np.testing.assert_allclose(found, right, rtol=0, atol=1e-5)
    assert np.ptp(right) > 1e-3


def _listen(params: dict[str, np.ndarray], sound: np.ndarray) -> list[float]:
    p = {name: leaf.astype(np.float64) for name, leaf in params.items()}
    h, c, before, found = np.zeros(6), np.zeros(6), np.zeros(64), []
    for piece in sound.reshape(-1, 512).astype(np.float64):
        x = np.concatenate([before, piece, piece[-2:-66:-1]])
        frames = np.stack([x[i : i + 256] for i in range(0, 385, 128)])
        y = frames @ p["stft_conv.weight"][:, 0].T
        y = np.hypot(y[:, :9], y[:, 9:]).T
        for i, stride in enumerate((1, 2, 2, 1), 1):
            y = np.pad(y, ((0, 0), (1, 1)))
            steps = range(0, y.shape[1] - 2, stride)
            windows = np.stack([y[:, t : t + 3] for t in steps], 1)
            y = np.einsum("itk,oik->ot", windows, p[f"conv{i}.weight"])
            y = np.maximum(y + p[f"conv{i}.bias"][:, None], 0)
        z = p["lstm_cell.weight_ih"] @ y[:, 0] + p["lstm_cell.weight_hh"] @ h
        z = z + p["lstm_cell.bias_ih"] + p["lstm_cell.bias_hh"]
        gates = 1 / (1 + np.exp(-z))
        c = gates[6:12] * c + gates[:6] * np.tanh(z[12:18])
        h = gates[18:] * np.tanh(c)
        logit = p["final_conv.weight"][0, :, 0] @ np.maximum(h, 0)
        found.append(1 / (1 + np.exp(-logit - p["final_conv.bias"][0])))
        before = piece[-64:]
    return found


# ---- what their weights see ---------------------------------------------------------


def _some(name: str) -> tuple[networks.Forward, dict[str, np.ndarray], Any]:
    if name == "minilm":
        mask = np.ones((3, 8), np.float32)
        ids = RNG.integers(0, 50, (3, 8)).astype(np.int32)
        return minilm.forward, _bert(layers=1), minilm.Tokens(ids, mask)
    if name == "silero":
        return silero.forward, _silero(), _normal(2, 4 * silero.PIECE)
    recipe, model, own = IMAGES[name]
    return recipe.forward, images.folded(_variables(model, own)), own


@pytest.mark.parametrize("name", ["minilm", "silero", "lenet5"])
def test_gradients_of_weights_are_sums_over_their_inputs(name: str):
    """A product's gradient is `sum g x^T`: its rows lie in the span of the inputs x."""
    forward, params, batch = _some(name)
    fn, inputs = networks.functions(forward)
    weights = _normal(*jax.eval_shape(fn, params, batch).shape)
    grad = jax.grad(lambda own: jnp.sum(fn(own, batch) * weights))
    grads, seen = jax.jit(grad)(params), jax.jit(inputs)(params, batch)
    matrices = {n for n, leaf in params.items() if leaf.ndim > 1 and "embed" not in n}
    assert set(seen) == matrices
    for own in seen:
        layout = _layout(name, params[own].ndim)
        gradient = networks.as_matrix(grads[own], layout)
        x = np.asarray(seen[own], np.float64)
        assert x.shape[1] == gradient.shape[1]
        _, sizes, rows = np.linalg.svd(x, full_matrices=False)
        basis = rows[sizes > 1e-5 * sizes[0]]
        outside = gradient - gradient @ basis.T @ basis
        assert np.abs(outside).max() <= 1e-3 * np.abs(gradient).max(), own


def _layout(name: str, axes: int) -> tuple[int, ...]:
    if name in IMAGES:
        return IMAGES[name][0].layouts[axes]
    return tuple(range(axes))


def test_gram_matrices_are_means_over_all_batches():
    rows = [_normal(4, 3), _normal(4, 3), _normal(2, 3)]
    net = _linear(_normal(5, 3), rows)
    right = np.concatenate(rows).astype(np.float64)
    found = networks.grams(net, "real")["w"]
    np.testing.assert_allclose(found, right.T @ right / 10, rtol=1e-5)
    more = _normal(10, 3)
    both = net._replace(batches={**net.batches, "random": lambda: [more]})
    found = networks.grams(both, "real+random")["w"]
    right = np.concatenate([right, more]).astype(np.float64)
    np.testing.assert_allclose(found, right.T @ right / 20, rtol=1e-5)


def _linear(kernel: np.ndarray, batches: list[np.ndarray]) -> Network:
    fn, inputs = networks.functions(_product)
    return Network(
        "linear", {"w": kernel}, fn, inputs, {"w": (0, 1)}, {"real": lambda: batches},
        (networks.Metric("error", False),), lambda _: {"error": 0.0},
    )  # fmt: skip


def _product(params: Any, batch: Any, see: networks.See) -> jax.Array:
    see("w", lambda: jnp.asarray(batch))
    return batch @ params["w"].T


# ---- their data ---------------------------------------------------------------------


def test_batches_of_sentences_hold_each_once():
    lengths = [3, 9, 4, 17, 5] * 20
    sequences = [[i + 1] * n for i, n in enumerate(lengths)]
    found: list[list[int]] = []
    for batch in minilm.batches(sequences):
        assert batch.ids.shape[1] % 8 == 0
        for ids, mask in zip(batch.ids, batch.mask, strict=True):
            found.append(ids[mask > 0].tolist())
            assert not ids[mask == 0].any()
    assert sorted(found) == sorted(sequences)


def test_quality_of_minilm_sees_a_change_and_knows_the_original():
    def encode(texts: Any) -> list[list[int]]:
        return [[ord(c) % 50 for c in text[:12]] for text in texts]

    net = minilm.build(_bert(layers=1), encode)
    same = net.quality(net.params)
    assert set(same) == {metric.name for metric in net.metrics}
    assert min(same.values()) > 0.99999
    worse = {n: np.round(leaf, 0) for n, leaf in net.params.items()}
    assert max(net.quality(worse).values()) < 0.99
    assert net.batches["random"]()[0].ids.shape == (32, 32)
    assert sum(len(batch.ids) for batch in net.batches["real"]()) == minilm.CALIBRATED


def test_similarities_are_compared_by_rank():
    right = np.eye(3, 4)
    right[1, 0], right[2, 0], right[2, 1] = 0.1, 0.3, 0.5
    assert minilm.rank_correlation(right, right) == pytest.approx(1)
    # Similarities .1, .3, .53 become .53, .3, .1: the ranks are turned around.
    turned = right[[2, 1, 0]]
    assert minilm.rank_correlation(turned, right) == pytest.approx(-1)


def test_errors_of_images_are_counted_in_all_batches():
    recipe, model, own = IMAGES["lenet5"]
    params = images.folded(_variables(model, own))
    many = np.concatenate([own] * 90)
    fn, _ = networks.functions(recipe.forward)
    answers = np.argmax(np.asarray(fn(params, own)), -1)
    labels = np.concatenate([answers] * 90)
    labels[::4] += 1  # of 540 images, 135
    parts = {"test error %": (many, labels), "validation error %": (own, answers)}
    net = images.build(recipe, params, many, parts)
    found = net.quality(net.params)
    assert found == pytest.approx({"test error %": 25.0, "validation error %": 0.0})
    assert [len(batch) for batch in net.batches["real"]()] == [64] * 8
    assert net.batches["random"]()[0].dtype == np.uint8


def test_sentences_of_a_test_are_not_those_of_a_calibration():
    calibrated = sentences.documented(1024, 1, test=False)
    tested = sentences.documented(200, 0, test=True)
    assert len({*calibrated, *tested}) == 1224
    assert sentences.documented(200, 0, test=True) == tested
    with pytest.raises(ValueError, match=r"there are \d+ sentences, not 1000000"):
        sentences.documented(1_000_000, 0, test=True)


def test_scenes_are_made_of_a_seed():
    sound = sounds.scene(9, 0)
    assert sound.shape == (9 * sounds.RATE,) and sound.dtype == np.float32
    assert np.abs(sound).max() <= 1
    np.testing.assert_array_equal(sound, sounds.scene(9, 0))
    assert np.abs(sound - sounds.scene(9, 1)).mean() > 0.01
    loud = np.abs(sound.reshape(3, -1)).mean(1)
    assert loud[:2].min() > loud[2]  # the third piece is silent but for noise


PIECES = ("[UNK]", "[CLS]", "[SEP]", "cafe", "##s", "in", "par", "##is", "'", "?", "§")


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Cafés in PARIS?", ("cafe", "##s", "in", "par", "##is", "?")),
        ("  cafe's\n", ("cafe", "'", "[UNK]")),
        ("inparis", ("[UNK]",)),
        ("in $in", ("in", "[UNK]", "in")),
        ("par§is", ("par", "§", "[UNK]")),
        ("in" * 51, ("[UNK]",)),
        ("", ()),
    ],
)
def test_words_become_their_longest_pieces(text: str, pieces: tuple[str, ...]):
    vocabulary = {piece: i for i, piece in enumerate(PIECES)}
    ids = wordpiece.encode(text, vocabulary, 64)
    assert [PIECES[i] for i in ids] == ["[CLS]", *pieces, "[SEP]"]


def test_what_is_too_long_loses_its_end(tmp_path: Path):
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    vocabulary = wordpiece.read_vocabulary(tmp_path / "vocab.txt")
    assert wordpiece.encode("in in in in", vocabulary, 4) == [1, 5, 5, 2]


@pytest.mark.parametrize("module", [networks, sentences, wordpiece])
def test_examples_of(module: ModuleType):
    results = doctest.testmod(module)
    assert results.attempted > 0 and results.failed == 0
