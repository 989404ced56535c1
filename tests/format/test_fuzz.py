"""A short, seeded run of the fuzzer; the long one is `python -m tests.fuzz`."""

from pathlib import Path

import pytest

from tests import fuzz


@pytest.mark.spec("C41")
def test_mutated_files(tmp_path: Path):
    outcomes, failures = fuzz.run(1000, 1, str(tmp_path))
    assert not failures
    assert outcomes["a network"] > 100
    assert sum(outcomes.values()) == 1000
    # What is behind the checksums is reached.
    assert len(outcomes) > 40
