"""The training loop: an epoch is one compiled scan over data that stays on the device.

Nothing here knows of pruning or sharing. What is trained is a pytree of parameters; a
function given by the caller turns it into the network's variables, so that dense
weights, masked weights and codebooks are trained by the same step.
"""

import dataclasses
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

_EVALUATION_BATCH = 500
_EVALUATED = 10 * _EVALUATION_BATCH  # images in one call of a program

Array: TypeAlias = jax.Array | np.ndarray
Augmentation: TypeAlias = Callable[[jax.Array, jax.Array], jax.Array]


class Seen(NamedTuple):
    """What a loss may look at, besides the state.

    Attributes:
        images: The images of a batch as the network sees them, float32
            `[batch, height, width, channels]`.
        labels: Their labels, int32 `[batch]`.
        logits: What the network answers, float32 `[batch, classes]`.
        answers: What a teacher answers for the images as they were before `augment`,
            like `logits`; None if there is no teacher.
    """

    images: jax.Array
    labels: jax.Array
    logits: jax.Array
    answers: jax.Array | None = None


# A function of what a step has seen, and of `params` and `rest`, to a scalar.
Loss: TypeAlias = Callable[[Seen, Any, Any], jax.Array]


class TrainState(NamedTuple):
    """What changes from step to step, as a pytree.

    Attributes:
        params: What is trained.
        rest: What else the network consists of: its other collections by name, such as
            moving statistics, or all but the codebooks that are trained.
        opt_state: The state of an optimizer made by `optax.inject_hyperparams`.
    """

    params: Any
    rest: Any
    opt_state: Any


def split(variables: Any) -> tuple[Any, Any]:
    """Parameters, and the other collections by name."""
    rest = {name: tree for name, tree in variables.items() if name != "params"}
    return variables["params"], rest


def with_statistics(params: Any, rest: Any) -> Any:
    """The variables of an ordinary network."""
    return {"params": params, **rest}


def cross_entropy(seen: Seen, params: Any, rest: Any) -> jax.Array:
    """Mean cross entropy, in nats."""
    del params, rest
    losses = optax.losses.softmax_cross_entropy_with_integer_labels
    return losses(seen.logits, seen.labels).mean()


@dataclasses.dataclass(frozen=True)
class Trainer:
    """The fixed parts of a training step.

    Attributes:
        model: Maps images to logits; may have BatchNorm and dropout.
        optimizer: Has `learning_rate` as an injected hyperparameter.
        batch: How many images a step takes.
        augment: Changes uint8 images `[batch, height, width, channels]` at random, by a
            key; None leaves them as they are.
        l2: Weight of half the sum of squares of all kernels in the loss.
        expand: Maps `params` and `rest` of the state to the variables of `model`.
        batch_statistics: Whether BatchNorm uses the statistics of the batch and updates
            those in `rest`. Else it works as in inference, and the derivatives are
            those of the network as it is stored.
        loss: The loss of a batch, without `l2`.
    """

    model: nn.Module
    optimizer: optax.GradientTransformation
    batch: int
    augment: Augmentation | None = None
    l2: float = 0.0
    expand: Callable[[Any, Any], Any] = with_statistics
    batch_statistics: bool = True
    loss: Loss = cross_entropy

    @partial(jax.jit, static_argnums=0, donate_argnums=1)
    def epoch(
        self,
        state: TrainState,
        images: jax.Array,
        labels: jax.Array,
        key: jax.Array,
        rates: jax.Array,
        answers: jax.Array | None = None,
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """Trains on every image once, in a random order, but for an incomplete batch.

        Args:
            state: The state before the epoch, which is consumed.
            images: The images, uint8 `[n, height, width, channels]`.
            labels: Their labels, int32 `[n]`.
            key: For the order of the images, the augmentation and dropout.
            rates: The learning rate of each step, float32 `[n // batch]`.
            answers: The logits of a teacher, float32 `[n, classes]`, for a loss that
                needs them.

        Returns:
            The new state, and the mean `loss` and `error` (percent) over the epoch.
        """
        order_key, step_key = jax.random.split(key)
        order = jax.random.permutation(order_key, images.shape[0])
        order = order[: rates.shape[0] * self.batch].reshape(-1, self.batch)
        keys = jax.random.split(step_key, rates.shape[0])

        def body(
            state: TrainState, step: tuple[jax.Array, jax.Array, jax.Array]
        ) -> tuple[TrainState, dict[str, jax.Array]]:
            indices, key, rate = step
            batch = jax.tree.map(
                lambda x: _shard(x[indices]), (images, labels, answers)
            )
            return self._step(state, batch, key, rate)

        state, metrics = jax.lax.scan(body, state, (order, keys, rates))
        return state, jax.tree.map(jnp.mean, metrics)

    def _step(
        self,
        state: TrainState,
        batch: tuple[jax.Array, jax.Array, jax.Array | None],
        key: jax.Array,
        rate: jax.Array,
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        images, labels, answers = batch
        augment_key, dropout_key = jax.random.split(key)
        if self.augment is not None:
            images = self.augment(augment_key, images)
        inputs = normalize(images)

        def loss_fn(params: Any) -> tuple[jax.Array, tuple[Any, jax.Array]]:
            variables = self.expand(params, state.rest)
            logits, updated = self.model.apply(
                variables,
                inputs,
                train=True,
                batch_statistics=self.batch_statistics,
                rngs={"dropout": dropout_key},
                mutable=["batch_stats"],
            )
            loss = self.loss(Seen(inputs, labels, logits, answers), params, state.rest)
            loss += 0.5 * self.l2 * _kernel_squares(variables["params"])
            return loss, (dict(updated), logits)

        (loss, (updated, logits)), grads = jax.value_and_grad(loss_fn, has_aux=True)(
            state.params
        )
        opt_state = optax.tree.set(state.opt_state, learning_rate=rate)
        updates, opt_state = self.optimizer.update(grads, opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        wrong = jnp.argmax(logits, axis=-1) != labels
        metrics = {"loss": loss, "error": 100.0 * wrong.mean()}
        rest = updated if self.batch_statistics else state.rest
        return TrainState(params, rest, opt_state), metrics


@cache
def sgd() -> optax.GradientTransformation:
    """Nesterov's method, with a learning rate that is set anew at every step."""
    return optax.inject_hyperparams(optax.sgd, static_args=("momentum", "nesterov"))(
        learning_rate=0.0, momentum=0.9, nesterov=True
    )


@cache
def adam() -> optax.GradientTransformation:
    """Adam, for codebooks, with a learning rate that is set anew at every step.

    The derivative of an entry is a sum over its members, so that entries of large and
    small clusters differ by orders of magnitude; Adam makes their steps alike.
    """
    return optax.inject_hyperparams(optax.adam)(learning_rate=0.0)


def normalize(images: jax.Array) -> jax.Array:
    """Maps uint8 images to float32 in about [-2, 2]."""
    return (images.astype(jnp.float32) - 127.5) / 64.0


def crop_and_flip(key: jax.Array, images: jax.Array) -> jax.Array:
    """Shifts each image by up to 4 pixels, black coming in, and flips half of them.

    Args:
        key: For the shifts and flips.
        images: `[batch, height, width, channels]`, any dtype.

    Returns:
        Images of the same shape and dtype.
    """
    crop_key, flip_key = jax.random.split(key)
    cropped = crop(crop_key, images, by=4)
    flip = jax.random.bernoulli(flip_key, shape=(images.shape[0], 1, 1, 1))
    return jnp.where(flip, cropped[:, :, ::-1], cropped)


def crop(key: jax.Array, images: jax.Array, *, by: int = 2) -> jax.Array:
    """Shifts each image by up to `by` pixels each way, black coming in.

    Args:
        key: For the shifts.
        images: `[batch, height, width, channels]`, any dtype.
        by: The largest shift, in pixels.

    Returns:
        Images of the same shape and dtype.
    """
    corners = jax.random.randint(key, (images.shape[0], 2), 0, 2 * by + 1)
    padded = jnp.pad(images, ((0, 0), (by, by), (by, by), (0, 0)))

    def cut(image: jax.Array, corner: jax.Array) -> jax.Array:
        start = (corner[0], corner[1], 0)
        return jax.lax.dynamic_slice(image, start, images.shape[1:])

    return jax.vmap(cut)(padded, corners)


def cut_out(key: jax.Array, images: jax.Array, *, side: int) -> jax.Array:
    """Makes a square of each image gray, part of which may lie outside of the image.

    The method is that of DeVries and Taylor 2017 (arXiv 1708.04552).

    Args:
        key: For the places of the squares.
        images: uint8 `[batch, height, width, channels]`.
        side: The side of the squares, in pixels.

    Returns:
        Images of the same shape and dtype.
    """
    batch, *lengths, _ = images.shape
    square = jnp.ones((batch, 1, 1, 1), bool)
    for axis, length in enumerate(lengths, start=1):
        middle_key = jax.random.fold_in(key, axis)
        first = jax.random.randint(middle_key, (batch, 1), 0, length) - side // 2
        places = jnp.arange(length)
        inside = (places >= first) & (places < first + side)
        square &= jnp.expand_dims(inside, (3 - axis, 3))
    return jnp.where(square, jnp.array(128, images.dtype), images)


def logits(
    model: nn.Module, variables: Any, images: Array, *, exact: bool = True
) -> jax.Array:
    """Logits of a network in inference, float32 `[n, classes]`.

    Args:
        model: The network.
        variables: Its `params` and, if it has BatchNorm, `batch_stats`.
        images: uint8 `[n, height, width, channels]`.
        exact: Whether float32 is multiplied in full precision. By default accelerators
            use fewer bits.
    """
    count = images.shape[0]
    # One program serves any number of images, and variables from anywhere.
    size = min(_EVALUATED, count + -count % _EVALUATION_BATCH)
    variables = place(variables)
    parts = [
        _logits(model, variables, _padded(images[first : first + size], size), exact)
        for first in range(0, count, size)
    ]
    return jnp.concatenate(parts)[:count]


def _padded(images: Array, size: int) -> Array:
    if images.shape[0] == size:
        return images
    rest = size - images.shape[0]
    return jnp.pad(images, ((0, rest), (0, 0), (0, 0), (0, 0)))


@partial(jax.jit, static_argnums=(0, 3))
def _logits(
    model: nn.Module, variables: Any, images: jax.Array, exact: bool
) -> jax.Array:
    batches = images.reshape(-1, _EVALUATION_BATCH, *images.shape[1:])
    with jax.default_matmul_precision("highest" if exact else None):
        outputs = jax.lax.map(
            lambda batch: model.apply(variables, normalize(_shard(batch))), batches
        )
    return outputs.reshape(-1, outputs.shape[-1])


def evaluate(
    model: nn.Module,
    variables: Any,
    images: Array,
    labels: Array,
    *,
    exact: bool = True,
) -> tuple[float, float]:
    """Error in percent, and mean cross entropy in nats; `exact` is as in `logits`."""
    outputs = logits(model, variables, images, exact=exact)
    loss = optax.losses.softmax_cross_entropy_with_integer_labels(outputs, labels)
    wrong = np.asarray(jnp.argmax(outputs, axis=-1) != labels)
    return 100.0 * int(wrong.sum()) / len(wrong), float(loss.mean())


def replicate(tree: Any) -> Any:
    """Copies a pytree of arrays to every device, as an epoch takes and returns it.

    An epoch consumes its state, so what goes in must not be needed again elsewhere.
    """
    return place(jax.tree.map(jnp.array, tree))


def place(tree: Any) -> Any:
    """Puts arrays on every device, without copying those that are there already."""
    return jax.device_put(tree, NamedSharding(_mesh(), PartitionSpec()))


def _mesh() -> Mesh:
    """All visible devices in a row, among which batches are split."""
    count = jax.device_count()
    return jax.make_mesh((count,), ("data",), axis_types=(AxisType.Auto,))


def _shard(batch: jax.Array) -> jax.Array:
    return jax.lax.with_sharding_constraint(
        batch, NamedSharding(_mesh(), PartitionSpec("data"))
    )


def _kernel_squares(params: Any) -> jax.Array:
    leaves = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim > 1]
    return sum((jnp.sum(jnp.square(leaf)) for leaf in leaves), jnp.zeros(()))
