"""Metadata at the end of the header: strings for people and programs.

    metadata  = varint pairs, then each: varint size of the key, the key, varint size of
                the value, the value

Format notes:

- They are in UTF-8, in ascending order of keys; there may be none, and then nothing.
"""

import itertools
from collections.abc import Mapping

from deepcomp_jax._errors import FormatError
from deepcomp_jax.format.fields import get_bytes, utf8
from deepcomp_jax.streams import bits


def put(metadata: Mapping[str, str]) -> bytes:
    """Writes metadata, which may be none.

    Raises:
        TypeError: They are no strings.
        ValueError: UTF-8 cannot hold them.
    """
    if not metadata:
        return b""
    for text in itertools.chain(*metadata.items()):
        if not isinstance(text, str):
            raise TypeError(f"metadata must be strings, got {text!r}: convert it")
    out = [bits.put_varint(len(metadata))]
    for text in itertools.chain(*sorted(metadata.items())):
        raw = utf8(text)
        out += [bits.put_varint(len(raw)), raw]
    return b"".join(out)


def get(data: bytes, pos: int) -> tuple[int, dict[str, str]]:
    """The position after the metadata, and what they are.

    Raises:
        FormatError: C3, C6, C59.
    """
    start = pos
    pos, count = bits.get_varint(data, pos, clause="C3")
    found: dict[str, str] = {}
    last: bytes | None = None
    for _ in range(count):
        pos, key = _get_text(data, pos)
        pos, value = _get_text(data, pos)
        if last is not None and key <= last:
            raise FormatError("keys do not ascend", offset=start, clause="C59")
        last = key
        try:
            found[key.decode()] = value.decode()
        except UnicodeDecodeError:
            raise FormatError(
                "metadata are not UTF-8", offset=start, clause="C59"
            ) from None
    if not count:
        raise FormatError("metadata of no pair", offset=start, clause="C59")
    return pos, found


def _get_text(data: bytes, pos: int) -> tuple[int, bytes]:
    pos, size = bits.get_varint(data, pos, clause="C3")
    return get_bytes(data, pos, size)
