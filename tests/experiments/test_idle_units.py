"""Idle units are left out, and come back as zeros."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

from deepcomp_jax import fold, trees
from experiments import lenet_mnist, vgg19_cifar10
from experiments.models import lenet, vgg
from experiments.models.vgg import of_width
from experiments.study import narrowing

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


def test_which_units_are_busy():
    _, variables = network()
    kept = narrowing.busy(variables, ROLES.units)
    assert kept["conv1"].tolist() == [0, 3]
    assert kept["conv2"].tolist() == [0, 1, 2, 3, 4]
    assert kept["ip1"].tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_the_narrow_network_answers_alike_and_is_widened_again():
    model, variables = network()
    kept = narrowing.busy(variables, ROLES.units)
    slim = narrowing.narrow(variables, ROLES.units, kept)
    images = jax.random.normal(jax.random.key(1), (3, 28, 28, 1))
    assert lenet.rebuild(slim) == lenet.LeNet5((2, 5), 7)
    wide = narrowing.widen(slim, variables, ROLES.units, kept)
    answers = [
        jax.jit(net.apply)(own, images)
        for net, own in (
            (model, variables),
            (lenet.rebuild(slim), slim),
            (model, wide),
        )
    ]
    np.testing.assert_allclose(answers[1], answers[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(answers[2], answers[0], rtol=1e-4, atol=1e-5)
    for name, leaf in trees.named_leaves(wide).items():
        old = trees.named_leaves(variables)[name]
        assert ((leaf == old) | (leaf == 0)).all()


def test_units_of_a_network_with_batchnorm():
    """VGG19, three channels wide: one of a block is idle, and its variance comes back.

    A channel that BatchNorm makes constant is not idle.
    """
    model = of_width(3 / 64, dropout=0.0)
    images = jax.random.normal(jax.random.key(1), (2, 32, 32, 3))
    variables = jax.jit(model.init)(jax.random.key(0), images)
    variables = jax.tree.map(np.array, fold.batchnorm(variables))
    params, units = variables["params"], vgg19_cifar10.ROLES.units
    params["conv2_1"]["kernel"][..., [0, 4]] = 0
    params["bn2_1"]["scale"][[0, 4]] = 0
    params["bn2_1"]["bias"][[0, 4]] = 0, 0.5
    params["fc1"]["kernel"][:, 7] = 0
    kept = narrowing.busy(variables, units)
    sizes = {name: params[name]["bias"].size for name in units}
    assert {n for n, own in kept.items() if own.size < sizes[n]} == {"conv2_1", "fc1"}
    assert 0 not in kept["conv2_1"] and 4 in kept["conv2_1"]

    slim = narrowing.narrow(variables, units, kept)
    narrow = vgg.rebuild(slim)
    assert narrow.blocks[1] == (5, 6) and narrow.hidden[0] == model.hidden[0] - 1
    wide = narrowing.widen(slim, variables, units, kept)
    for name, leaf in trees.named_leaves(wide).items():
        old = trees.named_leaves(variables)[name]
        assert ((leaf == old) | (leaf == 0)).all()
        assert name.startswith("params/") or np.array_equal(leaf, old)
    answers = [
        jax.jit(net.apply)(own, images) for net, own in ((model, wide), (narrow, slim))
    ]
    np.testing.assert_allclose(*answers, rtol=1e-3, atol=1e-5)


def test_a_layer_keeps_a_unit():
    _, variables = network()
    nothing = jax.tree.map(np.zeros_like, variables)
    kept = narrowing.busy(nothing, ROLES.units)
    assert {name: own.size for name, own in kept.items()} == dict.fromkeys(kept, 1)


def test_sorted_units_answer_alike():
    model, variables = network()
    found = narrowing.sort(variables, ROLES.units)
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


def test_without_units_all_stays():
    _, variables = network()
    same = narrowing.narrow(variables, {}, narrowing.busy(variables, {}))
    assert jax.tree.all(jax.tree.map(np.array_equal, same, variables))
