"""Small leaves in many parts, for tests: the limit of C58 is lowered meanwhile."""

import contextlib
from collections.abc import Iterator

import pytest

from deepcomp_jax.format import parts
from tests.support.readers import DECODER


@contextlib.contextmanager
def limited(most: int) -> Iterator[None]:
    """Leaves of more values are divided, by the library and by the decoder.

    Args:
        most: Values of a part; 1 or more.
    """
    with pytest.MonkeyPatch.context() as patch:
        for module in (parts, DECODER):
            patch.setattr(module, "MOST", most)
        yield
