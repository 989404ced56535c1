"""The test vectors of `specs/vectors`: current, and read alike by both decoders."""

import ast
import hashlib
import json
from pathlib import Path

import pytest

from deepcomp_jax import FormatError
from deepcomp_jax.format import container
from tests import make_vectors
from tests.support import readers, specs

FOLDER = make_vectors.FOLDER
VALID = sorted((FOLDER / "valid").glob("*.dcz"))
INVALID = sorted((FOLDER / "invalid").glob("*.dcz"))


DECODER = readers.DECODER


def test_vectors_are_current():
    """Valid ones hold what they would today; what is there stays as it is."""
    stored = {
        path.relative_to(FOLDER).as_posix(): path.read_bytes()
        for path in FOLDER.rglob("*/*.*")
    }
    made = make_vectors.vectors()
    assert stored.keys() == made.keys(), "run: python -m tests.make_vectors"
    changing = {path for path in made if path.startswith("valid/") and "dcz" in path}
    assert {path for path in made if stored[path] != made[path]} <= changing


def test_more_invalid_than_valid():
    assert len(INVALID) > len(VALID) > 0


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_valid(path: Path):
    """Library, reference decoder and description agree on structure and every bit."""
    data = path.read_bytes()
    expected = json.loads(path.with_suffix(".json").read_text())
    network = container.loads(data)
    structure, leaves, metadata = DECODER.decode(data)

    assert make_vectors.description(data) == expected
    assert metadata == expected.get("metadata", {})
    assert structure == network.structure == ast.literal_eval(expected["structure"])
    names = [entry.name for entry in container.read_header(data).leaves]
    assert [leaf[0] for leaf in leaves] == names
    found = [
        {
            "dtype": dtype,
            "shape": list(shape),
            "sha256": hashlib.sha256(raw).hexdigest(),
        }
        for _, dtype, shape, raw in leaves
    ]
    assert found == expected["leaves"]


@pytest.mark.spec(
    "C1", "C2", "C3", "C4", "C5", "C6", "C7", "C8", "C9", "C10", "C12", "C13", "C14",
    "C15", "C16", "C18", "C19", "C20", "C21", "C22", "C23", "C27", "C28",
    "C29", "C30", "C17", "C31", "C32", "C11", "C33", "C34", "C35", "C36", "C37", "C24",
    "C46", "C54", "C55", "C59", "C60", "C61", "C62", "C63",
    "L1", "L2", "L3", "L4", "L5", "L6", "L7", "L8", "L9", "L10", "L17", "L18", "L20",
    "L21",
    "E2", "E3", "E4", "E5", "E6", "E7", "E8",
)  # fmt: skip
@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_invalid(path: Path):
    """Both decoders reject the file because of the clause that its name says."""
    clause = path.stem.split("-")[0]
    data = path.read_bytes()
    with pytest.raises(FormatError) as caught:
        container.loads(data)
    assert caught.value.clause == clause
    assert 0 <= caught.value.offset <= len(data)
    with pytest.raises(DECODER.Broken, match=f"^{clause}$"):
        DECODER.decode(data)


def test_every_clause_that_rejects_has_a_vector():
    rejecting = {
        clause.number
        for clause in specs.clauses()
        if clause.number[0] in "CEGHLV" and "MUST reject" in clause.text
    }
    broken = {path.stem.split("-")[0] for path in INVALID}
    # C41 is about every file, and is a property in test_container.
    assert rejecting - {"C41"} == broken
