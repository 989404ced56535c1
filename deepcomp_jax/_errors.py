"""The one error for files that break the format; lists in messages; warnings."""

import itertools
import sys
import warnings
from collections.abc import Iterable

_PACKAGE = __name__.partition(".")[0]
_MOST_NAMED = 20


class FormatError(ValueError):
    """A file, or a part of one, breaks a clause of the specification.

    Attributes:
        offset: Where the fault was found, in bytes from the start of the data read.
        clause: The clause of `specs/` that is broken, for example `"C7"`.
    """

    def __init__(self, message: str, *, offset: int, clause: str) -> None:
        """Builds the error; `message` says what was found and what was expected."""
        super().__init__(f"{message} (byte {offset}, clause {clause})")
        self.offset = offset
        self.clause = clause


def listed(names: Iterable[str], separator: str = ", ") -> str:
    """Names in a message: the first twenty, and how many more there are.

    Args:
        names: Of leaves, or what is said of each.
        separator: Between two of them.
    """
    rest = iter(names)
    first = list(itertools.islice(rest, _MOST_NAMED))
    if more := sum(1 for _ in rest):
        first.append(f"and {more} more")
    return separator.join(first)


def warn(message: str) -> None:
    """Warns of the line outside of the package that led here."""
    frame, level = sys._getframe(1), 2
    while frame.f_back and _is_own(frame.f_globals.get("__name__", "")):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)


def _is_own(module: str) -> bool:
    return module.partition(".")[0] == _PACKAGE
