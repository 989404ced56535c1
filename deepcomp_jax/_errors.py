"""The one error for files that break the format, and lists in messages."""

import itertools
from collections.abc import Iterable

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
