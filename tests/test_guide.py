"""Every page of the guide runs as it is written, and prints what it shows."""

from pathlib import Path

import jax
import pytest

from tests.support import pages

GUIDE = Path(__file__).parents[1] / "specs" / "guide"
PAGES = sorted(page for page in GUIDE.glob("*.md") if page.name != "README.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    assert any(block.output for block in pages.blocks(page))
    with jax.numpy_rank_promotion("allow"):  # as readers have it
        pages.run(page)
    for figure in tmp_path.glob("*.png"):
        assert f"]({figure.name})" in page.read_text()
        assert (GUIDE / figure.name).stat().st_size < 40_000


def test_index_names_every_page():
    index = (GUIDE / "README.md").read_text()
    assert [page.name for page in PAGES if f"]({page.name})" not in index] == []


def test_other_output_is_an_error(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("```python\nprint(1 + 1)\n```\n\n```text\n3\n```\n")
    with pytest.raises(AssertionError, match=r"page\.md, line 2: the page shows\n3"):
        pages.run(page)


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("a ... c\n", "a b c\n", True),
        ("a ... c\n", "a b\n", False),
        ("a\n...\nd\n", "a\nb\nc\nd\n", True),
        ("a\n...\nd\n", "a\nb\nc\n", False),
        ("1.5\n", "1x5\n", False),
    ],
)
def test_dots_stand_for_anything(shown: str, printed: str, same: bool):
    assert pages.agrees(shown, printed) == same
