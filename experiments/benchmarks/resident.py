"""Networks run from their coded form: memory of the weights and time, beside dense.

    dcz compress .../model/model.safetensors -o minilm.dcz --bits-per-weight 4
    python -m experiments.benchmarks.resident minilm.dcz

Rows of `experiments/results/shrink/resident.json`, two for each work, dense and coded:

    minilm     embeddings of sentences by MiniLM-L6, 32 tokens each
    stack      24 layers of 1024 x 4096 under `scan`, of about three bits a weight

A row has the bytes of the weights, those that XLA takes beside arguments and results,
and both together, of which the share of the dense network is `of_dense`; and
milliseconds a call, the median of rounds in which both take their turn. What is taken
beside are activations and what is decoded: with a batch of one it is hardly more than
the latter, and so all bytes are the peak of the weights.
"""

import argparse
import itertools
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import deepcomp_jax as dc
from deepcomp_jax._types import Compressed, SharedLeaf
from deepcomp_jax.resident import Resident, decoding
from experiments.benchmarks import timing
from experiments.post_training import minilm
from experiments.post_training.networks import functions

_RESULT = Path(__file__).parents[1] / "results" / "shrink" / "resident.json"
_LAYERS, _WIDTH, _INNER = 24, 1024, 4096
_TIME = 32


def main() -> None:
    """Measures, prints and writes the rows."""
    parser = timing.parser(__doc__, rounds=7)
    parser.add_argument("file", type=Path, help="MiniLM-L6, compressed")
    args = parser.parse_args()
    rows = []
    for row in itertools.chain(of_minilm(args), of_stack(args.rounds)):
        print(row, flush=True)
        rows.append(row)
    _RESULT.parent.mkdir(parents=True, exist_ok=True)
    _RESULT.write_text(json.dumps(rows, indent=1) + "\n")


def of_minilm(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Batches of sentences of random tokens, which take as long as any others."""
    with dc.open(args.file) as file:
        coded = file.on_device()
    dense = {name: jnp.asarray(own) for name, own in dc.load(args.file).items()}
    forward, _ = functions(minilm.forward)
    words = len(dense["embeddings.word_embeddings.weight"])
    rng = np.random.default_rng(0)
    for batch in (1, 8, 64, 256):
        ids = rng.integers(0, words, (batch, _TIME)).astype(np.int32)
        tokens = minilm.Tokens(ids, np.ones(ids.shape, np.float32))
        yield from compared("minilm", forward, dense, coded, tokens, batch, args.rounds)


def of_stack(rounds: int) -> Iterator[dict[str, Any]]:
    """A network that is one scan, of random weights rounded to 16 values."""
    rng = np.random.default_rng(0)
    labels = np.empty((_LAYERS, _WIDTH, _INNER), np.uint8)
    for layer in labels:
        drawn = rng.standard_normal(layer.shape, np.float32)
        layer[:] = np.clip(np.rint(drawn * 2.5) + 8, 1, 16)
    codebook = (np.arange(1, 17) - 8).astype(np.float32) / (2.5 * np.sqrt(_WIDTH))
    kept = codebook != 0
    labels = np.where(kept[labels - 1], np.cumsum(kept, dtype=np.uint8)[labels - 1], 0)
    network = Compressed({"kernel": 0}, (SharedLeaf(labels, 0),), (codebook[kept],))
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "stack.dcz")
        dc.save(path, network)
        with dc.open(path) as file:
            coded = file.on_device()
        dense = jax.tree.map(jnp.asarray, dc.load(path))
    for batch in (1, 64, 1024):
        x = rng.standard_normal((batch, _WIDTH), np.float32)
        yield from compared("stack", _scanned, dense, coded, x, batch, rounds)


def _scanned(params: Any, x: jax.Array) -> jax.Array:
    def layer(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, None]:
        inner = jnp.tanh(x @ kernel)
        return x + inner.reshape(len(x), -1, _WIDTH).sum(1), None

    return jax.lax.scan(layer, x, params["kernel"])[0]


def compared(
    name: str,
    fn: Callable[[Any, Any], jax.Array],
    dense: Any,
    coded: Resident,
    batch: Any,
    size: int,
    rounds: int,
) -> Iterator[dict[str, Any]]:
    """Rows of a function, dense and coded."""
    given = {"dense": dense, "coded": coded.tree()}
    works = {"dense": fn, "coded": decoding(fn)}
    programs = {
        form: jax.jit(work).lower(given[form], batch).compile()
        for form, work in works.items()
    }
    results = {form: run(given[form], batch) for form, run in programs.items()}
    gap = float(jnp.abs(results["dense"] - results["coded"]).max())
    calls = {
        form: lambda form=form: jax.block_until_ready(
            programs[form](given[form], batch)
        )
        for form in programs
    }
    times = timing.in_turns(calls, rounds)
    held = {"dense": coded.dense_nbytes, "coded": coded.nbytes}
    beside = {form: _temporary(run) for form, run in programs.items()}
    took = {form: timing.median(own).wall * 1e3 for form, own in times.items()}
    all_bytes = {form: held[form] + beside[form] for form in held}
    for form in programs:
        yield {
            "network": name, "batch": size, "form": form,
            "file_bytes": coded.file_bytes, "weight_bytes": held[form],
            "temporary_bytes": beside[form], "all_bytes": all_bytes[form],
            "of_dense": round(all_bytes[form] / all_bytes["dense"], 4),
            "ms": round(took[form], 2),
            "of_dense_ms": round(took[form] / took["dense"], 3),
            "largest_difference": gap,
        }  # fmt: skip


def _temporary(run: jax.stages.Compiled) -> int:
    """Bytes that a program takes beside its arguments and results."""
    found = run.memory_analysis()
    assert found is not None
    return int(found.temp_size_in_bytes)


if __name__ == "__main__":
    main()
