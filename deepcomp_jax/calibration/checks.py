"""What is wrong with batches, or with what came out of one, said once and clearly."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from deepcomp_jax.calibration.networks import Network


def several(batches: Any) -> Iterable[Any]:
    """Batches, unless they are one array, or no batches at all.

    Raises:
        ValueError: They are. An array would be taken for as many batches as it has
            rows, each of a single example.
    """
    if hasattr(batches, "shape"):
        raise ValueError(
            f"batches is one array, of shape {tuple(batches.shape)}: pass a list of "
            "batches, [x[:50], x[50:100], ...], or [x] if it is one batch"
        )
    if isinstance(batches, Mapping | str) or not isinstance(batches, Iterable):
        raise ValueError(
            f"batches is {type(batches).__name__}: pass a list of batches, or whatever "
            "gives one batch after the other; [x] for a single one"
        )
    return batches


def check_examples(number: int, arrays: Sequence[Any]) -> None:
    """Checks that a batch holds something.

    Raises:
        ValueError: All of its arrays are empty, or of no length.
    """
    lengths = {array.shape[0] for array in arrays if array.ndim}
    if lengths == {0} or arrays and all(array.size == 0 for array in arrays):
        shapes = ", ".join(str(array.shape) for array in arrays)
        raise ValueError(
            f"batch {number} is empty, of shape {shapes}: leave it out, or look at "
            "what made it"
        )


def check_finite(
    net: Network, number: int, batch: Any, squares: Mapping[int, np.ndarray]
) -> None:
    """Checks the derivatives of a batch, and looks for the cause if they are wrong.

    Numbers that are not finite are no fault by themselves: masks hold infinity.

    Args:
        net: The network.
        number: Of the batch.
        batch: Its arrays.
        squares: Of derivatives by leaves.

    Raises:
        ValueError: Some are not finite.
    """
    wrong = [i for i, value in squares.items() if not np.isfinite(value).all()]
    if not wrong:
        return
    leaves = dict(zip(net.names, net.leaves, strict=True))
    paths, _ = jax.tree_util.tree_flatten_with_path(batch)
    inputs = {jax.tree_util.keystr(path): array for path, array in paths}
    for what, test in (("NaN", np.isnan), ("infinity", np.isinf)):
        if (name := _first(leaves, test)) is not None:
            raise ValueError(
                f"leaf {name!r} holds {what}, so that derivatives are not finite and "
                "nothing can be known: repair the training, or the way the leaf was "
                "loaded"
            )
        if (name := _first(inputs, test)) is not None:
            raise ValueError(
                f"batch {number}{name} holds {what}, so that derivatives are not "
                "finite: clean these inputs, or leave the batch out"
            )
    raise ValueError(
        f"batch {number}: derivatives by leaf {net.names[wrong[0]]!r} are not finite, "
        "though all leaves and inputs are, so that nothing is known of this batch: "
        "leave it out, or compute in a wider type"
    )


def _first(
    arrays: Mapping[str, Any], test: Callable[[np.ndarray], np.ndarray]
) -> str | None:
    """The name of the first of some arrays with values for which a test is true."""
    for name, array in arrays.items():
        inexact = jnp.issubdtype(jnp.result_type(array), jnp.inexact)
        if inexact and test(np.asarray(array)).any():
            return name
    return None
