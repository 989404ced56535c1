"""The format is frozen: files that were committed once are read alike for ever."""

import hashlib
import json
from pathlib import Path

import pytest

from tests import make_vectors

ROOT = Path(__file__).parents[2]
LINES = [line.split() for line in make_vectors.FROZEN.read_text().splitlines()]
RESULTS = ROOT / "experiments" / "results"


@pytest.mark.parametrize(("path", "file", "content"), LINES, ids=lambda text: text[:60])
def test_a_committed_file_is_read_as_it_always_was(path: str, file: str, content: str):
    if path.startswith("experiments") and not RESULTS.exists():
        pytest.skip("results are not in the source distribution")
    data = (ROOT / path).read_bytes()
    assert hashlib.sha256(data).hexdigest() == file, "a frozen file never changes"
    assert make_vectors.content(data) == content


def test_every_committed_file_is_frozen():
    vectors = {p.relative_to(ROOT) for p in make_vectors.FOLDER.glob("valid/*.dcz")}
    networks = {path.relative_to(ROOT) for path in RESULTS.rglob("*.dcz")}
    listed = {Path(path) for path, *_ in LINES}
    assert vectors and vectors | networks <= listed
    assert listed - vectors - networks <= {
        path for path in listed if path.parts[0] == "experiments" and not networks
    }


def test_a_change_would_be_seen():
    path = make_vectors.FOLDER / "valid" / "containers.dcz"
    other = make_vectors.FOLDER / "valid" / "keys.dcz"
    one, two = path.read_bytes(), other.read_bytes()
    assert make_vectors.content(one) != make_vectors.content(two)
    described = json.loads(path.with_suffix(".json").read_text())
    assert make_vectors.digest(described) == make_vectors.content(one)
