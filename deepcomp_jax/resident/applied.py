"""A function of coded parameters, compiled, that is called without them."""

from collections.abc import Callable
from typing import Any

import jax

from deepcomp_jax.resident import arguments
from deepcomp_jax.resident.arguments import Rest
from deepcomp_jax.resident.evaluation import decoding, is_resident

# What code raises if it gets another pytree than it was written for.
_OF_OTHER_TREES = (AttributeError, IndexError, KeyError, TypeError, ValueError)


class Applied:
    """A function whose first argument is a network that stays coded."""

    def __init__(self, fn: Callable[..., Any], params: Any, is_plain: bool) -> None:
        """Of a function and the tree that it takes first.

        Args:
            fn: The function.
            params: With coded leaves.
            is_plain: Whether the containers are those of the file.

        Raises:
            TypeError: `fn` is no function.
        """
        if not callable(fn):
            raise TypeError(
                f"fn is {type(fn).__name__}: pass a function that takes the parameters "
                "first, such as `model.apply`"
            )
        self._fn, self._params = fn, params
        decoded = decoding(_explained(fn) if is_plain else fn)

        def run(params: Any, arrays: list[Any], rest: Rest) -> Any:
            args, kwargs = arguments.joined(arrays, rest)
            return decoded(params, *args, **kwargs)

        self._run = jax.jit(run, static_argnums=2)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The result of the function for these arguments after the parameters."""
        arrays, rest = arguments.split((args, kwargs))
        return self._run(self._params, arrays, rest)

    def __repr__(self) -> str:
        name = getattr(self._fn, "__qualname__", type(self._fn).__name__)
        leaves = len(jax.tree.leaves(self._params, is_leaf=is_resident))
        return f"Applied({name}, {leaves} leaves)"


def _explained(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose errors say with which containers it was called."""

    def run(params: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return fn(params, *args, **kwargs)
        except _OF_OTHER_TREES as error:
            if not isinstance(error, jax.errors.JAXTypeError):
                error.add_note(
                    "The parameters were in the containers of the file, a "
                    f"{type(params).__name__}: if this function takes others, such as "
                    "a module of Equinox or a state of NNX, give `apply` a tree of "
                    "that kind as `like`."
                )
            raise

    return run
