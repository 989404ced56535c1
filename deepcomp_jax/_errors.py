"""The one error for files that break the format."""


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
