"""Sets: one network in several files, each of which holds some of its leaves.

    NAME-00001-of-00004.dcz ... NAME-00004-of-00004.dcz

Every file has the whole tree, and says of each leaf that it does not hold what it looks
like (C60). So a set needs no index, and a file alone tells what it lacks.
"""

import contextlib
import re
from collections.abc import Iterator, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import NamedTuple

from deepcomp_jax._errors import FormatError
from deepcomp_jax.format import reader, source
from deepcomp_jax.format.leaf_header import ELSEWHERE
from deepcomp_jax.format.records import Entry, Header
from deepcomp_jax.format.source import Source

MAX_FILES = 99999
_NAME = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.dcz")


class Opened(NamedTuple):
    """A file of a set that is open.

    Attributes:
        source: Its bytes.
        header: What it holds.
    """

    source: Source
    header: Header


def path_of(path: str | PathLike[str], number: int, count: int) -> Path:
    """The path of one file of a set.

    Args:
        path: Of the set, such as "model.dcz".
        number: Of the file, from 1 on.
        count: Of the files.

    Examples:
        >>> from deepcomp_jax.format import sets
        >>> sets.path_of("model.dcz", 1, 4).name
        'model-00001-of-00004.dcz'
    """
    whole = Path(path)
    return whole.with_name(f"{whole.stem}-{number:05}-of-{count:05}.dcz")


def paths(path: str | PathLike[str]) -> list[Path]:
    """The files of a set, or the one file that a path names.

    Args:
        path: Of a file, of the set, or of any file in it.

    Raises:
        FileNotFoundError: There is none, or a file of the set is missing.
        ValueError: There are sets of different numbers of files.
    """
    given = Path(path)
    if found := _NAME.fullmatch(given.name):
        stem, _, count = found.groups()
        members = [
            path_of(given.with_name(f"{stem}.dcz"), n + 1, int(count))
            for n in range(int(count))
        ]
        if given.exists() and not all(member.exists() for member in members):
            missing = [member.name for member in members if not member.exists()]
            raise FileNotFoundError(
                f"{fspath(path)} is of a set of which {missing[0]} is missing"
            )
        return members if members else [given]
    if not given.exists() and (first := {_count(own): own for own in _members(given)}):
        if len(first) > 1:
            names = " and ".join(first[count].name for count in sorted(first))
            raise ValueError(
                f"{fspath(path)} is the name of two sets, of {names}: remove the older "
                "one, or give the name of a file of the one to be read"
            )
        return paths(next(iter(first.values())))
    return [given]


def outdated(path: str | PathLike[str], count: int) -> list[Path]:
    """What else there is under the name of a set that has just been written.

    Args:
        path: Of the set.
        count: Of its files.

    Returns:
        The single file that `path` names, and files of sets of another count.
    """
    whole = Path(path)
    others = [own for own in _members(whole) if _count(own) != count]
    return [whole, *others] if whole.is_file() else others


def _members(whole: Path) -> list[Path]:
    """Files that are of a set of this name."""
    stem = re.sub(r"([\[\]*?])", r"[\1]", whole.stem)
    every = sorted(whole.parent.glob(f"{stem}-?????-of-?????.dcz"))
    return [own for own in every if _NAME.fullmatch(own.name)]


def _count(member: Path) -> int:
    return int(member.stem[-5:])


def opened(path: str | PathLike[str], stack: contextlib.ExitStack) -> list[Opened]:
    """Opens a file, or all files of a set.

    Args:
        path: As for `paths`.
        stack: What closes them.

    Raises:
        FormatError: A header is damaged, or C60: the files are not of one set.
    """
    files: list[Opened] = []
    for member in paths(path):
        file = stack.enter_context(source.opened(member))
        files.append(Opened(file, reader.read_header(file)))
    check_set([file.header for file in files])
    return files


def leaves(files: Sequence[Opened]) -> Iterator[tuple[int, Entry]]:
    """The leaves of a network, each with the number of the file that holds it.

    Of one file of a set alone, leaves that are elsewhere are said to be in it.
    """
    for entries in zip(*(file.header.leaves for file in files), strict=True):
        here = [entry.layout.coding != ELSEWHERE for entry in entries]
        number = here.index(True) if any(here) else 0
        yield number, entries[number]


def check_set(headers: Sequence[Header]) -> None:
    """Checks that files are one network: each leaf is in one of them.

    Raises:
        FormatError: C60.
    """
    first = headers[0]
    for header in headers:
        if header.structure != first.structure:
            raise FormatError(
                "the files of the set are of two networks: their trees differ",
                offset=0,
                clause="C60",
            )
    for entries in zip(*(header.leaves for header in headers), strict=True):
        layouts = [entry.layout for entry in entries]
        here = sum(layout.coding != ELSEWHERE for layout in layouts)
        alike = {(layout.shape, layout.dtype) for layout in layouts}
        if here != 1 or len(alike) > 1:
            raise FormatError(
                f"leaf {entries[0].name!r} is in {here} files of the set, as "
                f"{len(alike)} kinds of array: it must be in one",
                offset=0,
                clause="C60",
            )
