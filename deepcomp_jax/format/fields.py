"""Fields that all parts of the header are made of: bytes, and strings."""

from typing import NamedTuple

from deepcomp_jax._errors import FormatError


class Problem(NamedTuple):
    """A rule of the format that something breaks, whoever notices it."""

    clause: str
    message: str


def utf8(text: str) -> bytes:
    """A string as bytes.

    Raises:
        ValueError: It has a surrogate alone.
    """
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{text!r} holds a lone surrogate, which UTF-8 cannot: change it"
        ) from None


def get_byte(data: bytes, pos: int) -> tuple[int, int]:
    """The position after a byte of the header, and the byte."""
    return pos + 1, get_bytes(data, pos, 1)[1][0]


def get_bytes(data: bytes, pos: int, size: int) -> tuple[int, bytes]:
    """The position after some bytes of the header, and the bytes."""
    if size > len(data) - pos:
        raise FormatError(
            "the fields do not end where the header does",
            offset=len(data),
            clause="C6",
        )
    return pos + size, data[pos : pos + size]
