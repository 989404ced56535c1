"""The pages of the guide run as they are written, and print what they say."""

from pathlib import Path
from typing import Any

import pytest

from tests.support import pages

GUIDE = Path(__file__).parents[1] / "specs" / "guide"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a page writes goes to a directory of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")


@pytest.mark.parametrize("name", sorted(page.name for page in GUIDE.glob("*.md")))
def test_page(name: str, tmp_path: Path):
    page = GUIDE / name
    pages.run_page(page)
    for image in pages.images(page.read_text()):
        assert (tmp_path / image).exists(), f"{name} shows {image}, but draws it not"
        assert (GUIDE / image).exists(), f"{name} shows {image}: run `make figures`"


PAGE = """# A page

```python
a = 20
print(a)
```

```text
20
```

```python
b = a + 1  # of the same namespace
print(b, "and more")
```
```text
21 ...
```

Another paragraph keeps a block of text apart: it is no output.

```python
print("unchecked")
```

It says:

```text
something else
```

![picture](drawn.png) and [a link](other.md), ![far](https://example.org/x.png)
"""


def test_blocks_and_what_they_print_are_found():
    assert [(b.code.split("\n")[0], b.printed, b.line) for b in pages.blocks(PAGE)] == [
        ("a = 20", "20\n", 3),
        ("b = a + 1  # of the same namespace", "21 ...\n", 12),
        ('print("unchecked")', None, 22),
    ]
    assert pages.images(PAGE) == ["drawn.png"]


def run(text: str, directory: Path) -> dict[str, Any]:
    page = directory / "page.md"
    page.write_text(text)
    return pages.run_page(page)


def test_blocks_share_one_namespace(tmp_path: Path):
    assert run(PAGE, tmp_path)["b"] == 21


@pytest.mark.parametrize(
    ("old", "new"),
    [("20\n```", "21\n```"), ("21 ...", "21"), ("```text\n20", "```text\n\n20")],
)
def test_wrong_output_would_be_seen(old: str, new: str, tmp_path: Path):
    assert old in PAGE
    with pytest.raises(AssertionError, match=r"page\.md, line \d+: the block printed"):
        run(PAGE.replace(old, new), tmp_path)


def test_errors_name_the_line_of_the_page(tmp_path: Path):
    with pytest.raises(NameError) as error:
        run(PAGE.replace("b = a + 1", "b = c + 1"), tmp_path)
    last = error.traceback[-1]
    assert (last.path.name, last.lineno + 1) == ("page.md", 13)


def test_a_block_that_nothing_would_run_is_refused(tmp_path: Path):
    for opening in ("```py\n", "``` python\n", "```python title=x\n", "  ```python\n"):
        with pytest.raises(AssertionError, match="plain ```python blocks"):
            run(PAGE.replace("```python\n", opening, 1), tmp_path)
