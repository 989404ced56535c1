"""The slides' measures, in the report of an experiment: their figures, their notes."""

import numpy as np
import pytest

import deepcomp_jax as dc
from deepcomp_jax import account
from deepcomp_jax.format import container
from experiments.reporting import slides


@pytest.mark.spec("A10")
def test_the_slides_results():
    found = slides.sharing_measures(4_575_283, 382, 38_969_920)
    assert found.unique == 382
    assert f"{found.unique_per_nonzero:.14f}" == "0.00834921031114"
    assert f"{found.unique_per_parameters:.16f}" == "0.0009802432234913"
    assert f"{found.parameters_per_unique:.2f}" == "102015.50"


@pytest.mark.spec("A10")
def test_measures_of_nothing():
    assert slides.sharing_measures(0, 0, 0)[3:] == (None, None, None)


@pytest.mark.spec("A11")
def test_equation_1():
    assert round(slides.equation_1(4_575_283, 280, b1=32, b2=8), 5) == 3.93615
    assert slides.equation_1(4_575_283, 280) == slides.equation_1(
        4_575_283, 280, b1=32, b2=8
    )
    assert round(slides.equation_1(4_575_283, 280, b2=32), 5) == 3.93544
    # The paper's own example, section 3: 16 weights, 4 clusters, 32 bits.
    assert round(slides.equation_1(16, 4, b2=32), 1) == 3.2
    for n, k in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match="needs weights and clusters"):
            slides.equation_1(n, k)


@pytest.mark.spec("A12")
def test_products():
    assert f"{slides.product(3.93615, 8.4616):.8f}" == "33.30612684"
    assert f"{slides.product(3.93615, 20.2394):.8f}" == "79.66531431"


@pytest.mark.spec("A10", "A11", "A12")
def test_measures_of_a_file():
    """Of 1000 values in two leaves 20 are not zero, and 8 distinct: four, twice."""
    leaf = np.zeros((50, 10), np.float32)
    leaf[0] = [1, 2, 3, 4, 1, 2, 3, 4, 1, 1]
    data = container.dumps(dc.compress([leaf, 2 * leaf], []))
    found = slides.measures(account.account(data))
    assert (found["parameters"], found["nonzero"], found["unique"]) == (1000, 20, 8)
    assert found["unique_per_nonzero"] == 40
    assert found["unique_per_parameters"] == pytest.approx(0.8)
    assert found["parameters_per_unique"] == 125
    assert found["parameters_per_nonzero"] == 50
    assert found["equation_1"] == pytest.approx(20 * 32 / (20 * 3 + 8 * 8))
    assert found["equation_1_paper"] == pytest.approx(20 * 32 / (20 * 3 + 8 * 32))
    assert found["product"] == pytest.approx(50 * 20 * 32 / (20 * 3 + 8 * 8))


@pytest.mark.spec("A14")
def test_each_measure_says_what_it_does_not_count():
    measured = slides.sharing_measures(4_575_283, 382, 38_969_920)._asdict()
    measured |= {
        "equation_1": 3.93615,
        "equation_1_paper": 3.93544,
        "parameters_per_nonzero": 8.4616,
        "product": None,
    }
    _, *lines = slides.lines(measured)
    rows = [line.split("  not counted: ") for line in lines]
    assert [" ".join(left.split()) for left, note in rows if note] == [
        "unique / non-zero 0.00834921031114 %",
        "unique / parameters 0.0009802432234913 %",
        "parameters / unique x102015.50",
        "equation 1, b2 = 8 x3.93615",
        "equation 1, b2 = 32 x3.93544",
        "parameters / non-zero x8.4616",
        "product of the levels -",
    ]
    assert all("positions" in note for _, note in rows)
