"""A short, seeded run of the fuzzer; the long one is `python -m tests.fuzz`."""

import pytest

from tests import fuzz


@pytest.mark.spec("C41")
def test_mutated_files():
    outcomes, failures = fuzz.run(3000, seed=1)
    assert not failures
    assert outcomes["a network"] > 100
    assert sum(outcomes.values()) == 3000
    # What is behind the checksums is reached.
    assert len(outcomes) > 40
