"""The dtypes of a file, and values as bytes."""

import ml_dtypes
import numpy as np

from deepcomp_jax._errors import FormatError

DTYPES: tuple[np.dtype, ...] = tuple(
    np.dtype(name)
    for name in (
        *("bool", "int8", "int16", "int32", "int64"),
        *("uint8", "uint16", "uint32", "uint64"),
        *("float16", ml_dtypes.bfloat16, "float32", "float64"),
        *("complex64", "complex128"),
        *(ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2),
        *(ml_dtypes.float8_e4m3b11fnuz, ml_dtypes.float8_e4m3fnuz),
        ml_dtypes.float8_e5m2fnuz,
    )
)
FLOATING = DTYPES[9:13]
WORDS = tuple(dtype for dtype in DTYPES if dtype.itemsize == 1)  # any bits, by codebook
FLOAT8 = DTYPES[15:]
SHORT_CODES = 15  # of dtypes whose code shares a byte with the coding


def check_dtype(name: str, dtype: np.dtype) -> None:
    """Rejects a leaf of a dtype that no file can hold.

    Raises:
        ValueError: It is none of `DTYPES`, in the byte order of this machine.
    """
    if dtype not in DTYPES:
        known = ", ".join(known.name for known in DTYPES)
        raise ValueError(f"leaf {name!r} is {dtype}: convert it to one of {known}")


def of_code(code: int, pos: int) -> np.dtype:
    """The dtype of a code that lies at a position of the header.

    Raises:
        FormatError: C20.
    """
    if code >= len(DTYPES):
        raise FormatError(f"a dtype of code {code}", offset=pos, clause="C20")
    return DTYPES[code]


def little(array: np.ndarray) -> bytes:
    """The values of an array, little-endian, in C order."""
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def from_little(data: bytes, dtype: np.dtype) -> np.ndarray:
    """The inverse of `little`, but for the shape; a copy."""
    return np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype)
