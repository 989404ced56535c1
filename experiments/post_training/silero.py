"""silero-vad at 16 kHz: where somebody speaks, from PyPI's `silero-vad`.

A Fourier transform as a convolution, four convolutions, an LSTM over the pieces of 512
samples, and a probability of speech for each. A batch is float32 `[sounds, samples]`,
with a multiple of 512 samples.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from deepcomp_jax import checkpoints
from experiments.post_training import networks, sounds
from experiments.post_training.networks import Metric, Network, Params, See

PIECE = 512  # samples for each probability
_CONTEXT = 64  # samples of the piece before, which are seen again
_HOP = 128
_STRIDES = {"conv1": 1, "conv2": 2, "conv3": 2, "conv4": 1}
_TESTED = 4  # sounds of a minute; of one alone, the measure is noise to a third
_CLIPS = 64  # to calibrate with
_CLIP = 90 * PIECE  # samples of each, nearly three seconds
_BATCH = 8  # clips
METRICS = (Metric("MAE", False, (0.0440, 0.0242)),)


def network(path: Path) -> Network:
    """silero-vad as of the wheel.

    Args:
        path: The wheel's `silero_vad/data/silero_vad_16k.safetensors`.
    """
    with checkpoints.open(path) as file:
        params = {name: np.asarray(leaf) for name, leaf in file.leaves.items()}
    fn, inputs = networks.functions(forward)
    listen = jax.jit(fn)
    test = np.stack([sounds.scene(60, 100 + seed) for seed in range(_TESTED)])
    right = np.asarray(listen(params, test))

    def quality(decoded: Params) -> dict[str, float]:
        return {"MAE": float(np.abs(np.asarray(listen(decoded, test)) - right).mean())}

    layouts = {
        name: tuple(range(leaf.ndim)) for name, leaf in params.items() if leaf.ndim > 1
    }
    batches = {"real": _real, "random": _random}
    return Network("silero", params, fn, inputs, layouts, batches, METRICS, quality)


def forward(params: Params, batch: jax.Array, see: See) -> jax.Array:
    """Probabilities of speech, float32 `[sounds, pieces]`."""
    pieces = jnp.asarray(batch).reshape(len(batch), -1, PIECE)
    before = jnp.pad(pieces[:, :-1, -_CONTEXT:], ((0, 0), (1, 0), (0, 0)))
    x = jnp.concatenate([before, pieces], -1).reshape(-1, 1, _CONTEXT + PIECE)
    x = jnp.pad(x, ((0, 0), (0, 0), (0, _CONTEXT)), mode="reflect")
    x = _conv(params, "stft_conv", x, _HOP, 0, see)
    real, imaginary = jnp.split(x, 2, axis=1)
    x = jnp.sqrt(real**2 + imaginary**2)
    for name, stride in _STRIDES.items():
        x = jax.nn.relu(_conv(params, name, x, stride, 1, see))
    h = _lstm(params, x[..., 0].reshape(*pieces.shape[:2], -1), see)
    last = jax.nn.relu(h).reshape(-1, h.shape[-1], 1)
    logits = _conv(params, "final_conv", last, 1, 0, see)
    return jax.nn.sigmoid(logits).reshape(pieces.shape[:2])


def _conv(
    params: Params, name: str, x: jax.Array, stride: int, padding: int, see: See
) -> jax.Array:
    """A convolution of `[batch, channels, time]`, with its bias if it has one."""
    kernel, bias = params[f"{name}.weight"], params.get(f"{name}.bias")
    window = kernel.shape[2:]
    see(f"{name}.weight", lambda: networks.patches(x, window, (stride,), padding))
    out = jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride,),
        [(padding, padding)],
        dimension_numbers=("NCH", "OIH", "NCH"),
    )
    return out if bias is None else out + bias[:, None]


def _lstm(params: Params, x: jax.Array, see: See) -> jax.Array:
    """Hidden states of an LSTM, `[sounds, pieces, units]`, from zeros on."""
    bias = params["lstm_cell.bias_ih"] + params["lstm_cell.bias_hh"]
    flat = x.reshape(-1, x.shape[-1])
    see("lstm_cell.weight_ih", lambda: flat)
    driven = jnp.moveaxis(x @ params["lstm_cell.weight_ih"].T + bias, 1, 0)
    recurrent = params["lstm_cell.weight_hh"].T

    def step(
        state: tuple[jax.Array, jax.Array], own: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        h, c = state
        i, f, g, o = jnp.split(own + h @ recurrent, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    zeros = jnp.zeros((len(x), recurrent.shape[0]), jnp.float32)
    _, states = jax.lax.scan(step, (zeros, zeros), driven)
    before = jnp.concatenate([zeros[None], states[:-1]])
    see("lstm_cell.weight_hh", lambda: before.reshape(-1, zeros.shape[-1]))
    return jnp.moveaxis(states, 0, 1)


def _real() -> list[np.ndarray]:
    sound = sounds.scene(3 * _CLIPS, 1)[: _CLIPS * _CLIP]
    return list(sound.reshape(-1, _BATCH, _CLIP))


def _random() -> list[np.ndarray]:
    """Noise, as loud as sounds may be."""
    rng = np.random.default_rng(2)
    loud = 10 ** rng.uniform(-3, -0.3, (_CLIPS, 1))
    noise = (loud * rng.normal(size=(_CLIPS, _CLIP))).astype(np.float32)
    return list(noise.reshape(-1, _BATCH, _CLIP))
