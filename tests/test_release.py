"""What surrounds the code agrees with it: commands, versions, pages of the site."""

import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest

import deepcomp_jax as dc

ROOT = Path(__file__).parents[1]
CALLERS = [
    "README.md",
    ".pre-commit-config.yaml",
    *(str(path.relative_to(ROOT)) for path in (ROOT / ".github").rglob("*.[my]*")),
]
MODULES = [name for name in dir(dc) if inspect.ismodule(getattr(dc, name))]


def targets() -> set[str]:
    """What `make` can make."""
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))


@pytest.mark.parametrize("caller", CALLERS)
def test_commands_exist(caller: str):
    text = (ROOT / caller).read_text()
    named = re.findall(r"(?:`|run: |entry: |^)make ([a-z]+)", text, re.M)
    assert set(named) - targets() == set()


def test_what_ci_makes_beside_the_tests_exists():
    (commands,) = re.findall(
        r"command: \[(.*)\]", (ROOT / ".github/workflows/ci.yml").read_text()
    )
    assert set(commands.split(", ")) <= targets()


def test_actions_are_pinned_by_commit():
    for workflow in (ROOT / ".github/workflows").iterdir():
        for line in re.findall(r"uses: (.*)", workflow.read_text()):
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)


def test_the_changelog_begins_with_this_version():
    heading = re.search(r"^## (\S+)", (ROOT / ".github/CHANGELOG.md").read_text(), re.M)
    assert heading and heading[1] == dc.__version__


def test_every_page_is_in_the_navigation_of_the_site():
    listed = re.findall(r"^ +- (\S+\.md)$", (ROOT / ".mkdocs.yml").read_text(), re.M)
    specs = ROOT / "specs"
    pages = [str(page.relative_to(specs)) for page in specs.rglob("*.md")]
    assert sorted(listed) == sorted(pages), "list each page under nav in .mkdocs.yml"


def missing(module: ModuleType, page: str) -> set[str]:
    """Public names of a module that its page of the site would not show.

    The site shows by itself what a module defines, but not what it takes from files
    behind it: such names must stand on the page.
    """
    taken = {
        name
        for name, value in vars(module).items()
        if re.match("deepcomp_jax[.]", getattr(value, "__module__", ""))
        and value.__module__ != module.__name__
        and name in getattr(module, "__all__", ())
    }
    return taken - set(re.findall(r"^ +- (\w+)$", page, re.M))


@pytest.mark.parametrize("name", MODULES)
def test_every_public_module_has_a_page(name: str):
    page = (ROOT / f"specs/api/{name}.md").read_text()
    assert f"::: deepcomp_jax.{name}\n" in page
    assert f"api/{name}.md" in (ROOT / ".mkdocs.yml").read_text()
    assert missing(importlib.import_module(f"deepcomp_jax.{name}"), page) == set()
