"""Idle units are left out, and come back as zeros."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from deepcomp_jax import fold, shrink, trees
from experiments import lenet_mnist
from experiments.models import lenet, vgg
from experiments.models.vgg import of_width
from experiments.study import unit_order
from tests.support.small import drawn

ROLES = lenet_mnist.LENET5


@cache
def network() -> tuple[lenet.LeNet5, dict[str, dict[str, dict[str, np.ndarray]]]]:
    """A LeNet-5 of 4, 6 and 8 units; one of each layer is idle, each in its own way."""
    model = lenet.LeNet5((4, 6), 8)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
    params = jax.tree.map(np.array, variables["params"])
    for layer in params.values():
        layer["bias"] += 0.1
    params["conv1"]["kernel"][..., 1] = 0  # makes nothing
    params["conv1"]["bias"][1] = 0
    params["conv2"]["kernel"][:, :, 2, :5] = 0  # is read by an idle unit alone
    params["ip1"]["kernel"].reshape(8, 16, 6)[:, :, 5] = 0  # is not read
    params["ip2"]["kernel"][:, 7] = 0
    return model, {"params": params}


def test_a_lenet_loses_its_idle_units():
    model, variables = network()
    images = jax.random.normal(jax.random.key(1), (3, 28, 28, 1))
    smaller = shrink.exact(
        model.apply, variables, images, rebuild=lambda own: lenet.rebuild(own).apply
    )
    assert smaller.notes == ()
    assert lenet.rebuild(smaller.params) == lenet.LeNet5((2, 5), 7)
    kept = {name: own for name, own in smaller.kept.items() if name.endswith("bias")}
    assert {
        name: own[0].tolist() for name, own in kept.items() if own[0] is not None
    } == {
        "params/conv1/bias": [0, 3],
        "params/conv2/bias": [0, 1, 2, 3, 4],
        "params/ip1/bias": [0, 1, 2, 3, 4, 5, 6],
    }
    _check(model, variables, lenet.rebuild(smaller.params), smaller, images)


def _check(
    model: Any, variables: Any, narrow: Any, smaller: shrink.Shrunk, images: jax.Array
) -> None:
    """The narrow network and the restored one answer as the original does."""
    wide = smaller.restore(smaller.params)
    answers = [
        jax.jit(net.apply)(own, images)
        for net, own in ((model, variables), (narrow, smaller.params), (model, wide))
    ]
    np.testing.assert_allclose(answers[1], answers[0], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(answers[2], answers[0], rtol=1e-3, atol=1e-5)
    for name, leaf in trees.named_leaves(wide).items():
        old = trees.named_leaves(variables)[name]
        assert ((leaf == old) | (leaf == 0)).all()


def test_a_vgg_loses_its_idle_units():
    """VGG19, three channels wide: one of a block is idle, and its variance comes back.

    A channel that BatchNorm makes constant stays, since zeros are padded around it.
    """
    model = of_width(3 / 64, dropout=0.0)
    images = jax.random.normal(jax.random.key(1), (2, 32, 32, 3))
    variables = jax.tree.map(np.array, fold.batchnorm(drawn(model)))
    params = variables["params"]
    params["conv2_1"]["kernel"][..., [0, 4]] = 0
    params["bn2_1"]["scale"][[0, 4]] = 0
    params["bn2_1"]["bias"][[0, 4]] = 0, 0.5
    params["fc1"]["kernel"][:, 7] = 0
    smaller = shrink.exact(
        model.apply, variables, images, rebuild=lambda own: vgg.rebuild(own).apply
    )
    narrow = vgg.rebuild(smaller.params)
    assert narrow.blocks == (model.blocks[0], (5, 6), *model.blocks[2:])
    assert narrow.hidden == (model.hidden[0] - 1, model.hidden[1])
    (note,) = smaller.notes
    assert note.group == "params/conv2_1/kernel:3" and "padded" in note.text
    _check(model, variables, narrow, smaller, images)
    restored = trees.named_leaves(smaller.restore(smaller.params))
    for name, leaf in trees.named_leaves(variables).items():
        assert name.startswith("params/") or np.array_equal(leaf, restored[name])


def test_sorted_units_answer_alike():
    model, variables = network()
    found = unit_order.sort(variables, ROLES.units)
    for layer, axis in (("conv1", 3), ("conv2", 3), ("ip1", 0)):
        kernel = np.moveaxis(found["params"][layer]["kernel"] != 0, axis, 0)
        made = kernel.reshape(len(kernel), -1).sum(axis=1)
        made = made + (found["params"][layer]["bias"] != 0)
        assert (np.diff(made) >= 0).all()
    images = jax.random.normal(jax.random.key(2), (20, 28, 28, 1))
    answers = [jax.jit(model.apply)(own, images) for own in (variables, found)]
    np.testing.assert_allclose(*answers, rtol=1e-4, atol=1e-5)
    moved = found["params"]["conv1"]["kernel"], variables["params"]["conv1"]["kernel"]
    assert not np.array_equal(*moved)
