"""The trained networks that the repository carries are decoded as they were written."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

import deepcomp_jax as dc
from deepcomp_jax import trees

RESULTS = Path(__file__).parents[2] / "experiments" / "results"
VGG19 = {
    "best": "cf69d58bcaf2e92c3bc9675432aaeb0c290a5f0ddaebf934ca80ea5355cee349",
    "best/grid-2": "3fe7f295d26204c9989a34db7134438dcbbb55ffe718f998924314123b803a99",
    "best/grid-3": "524541a3966e7bf658bdf134179d3a463eb136feca399eb6c0aecc18c55885a7",
}


@pytest.mark.parametrize(("name", "digest"), VGG19.items())
def test_vgg19_of_full_width(name: str, digest: str):
    path = RESULTS / name / "model.dcz"
    report = json.loads((path.parent / "report.json").read_text())
    variables = trees.named_leaves(dc.load(path))
    assert sum(leaf.size for leaf in variables.values()) == 38_969_930
    assert report["file_bytes"] == path.stat().st_size
    assert report["ratio"] == 4 * 38_969_930 / path.stat().st_size
    digested = hashlib.sha256()
    for leaf_name, leaf in sorted(variables.items()):
        digested.update(leaf_name.encode())
        digested.update(np.ascontiguousarray(leaf, np.dtype("<f4")).tobytes())
    assert digested.hexdigest() == digest
