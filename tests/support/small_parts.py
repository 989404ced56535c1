"""Small leaves in many parts, for tests: the limits of C58 are lowered meanwhile."""

import contextlib
from collections.abc import Iterator

import pytest

from deepcomp_jax.format import parts
from tests.support.readers import DECODER


@contextlib.contextmanager
def limited(whole: int, part: int) -> Iterator[None]:
    """Leaves of more values are divided, by the library and by the decoder.

    Args:
        whole: Values of a leaf that is one part, at most; 1 or more.
        part: Values of a part, if an index of its leading axes has no more.
    """
    with pytest.MonkeyPatch.context() as patch:
        for module in (parts, DECODER):
            patch.setattr(module, "WHOLE", whole)
            patch.setattr(module, "PART", part)
        yield
