"""Bytes and seconds of ZipNN, which compresses networks without loss.

It needs PyTorch, so give it an environment of its own:

    python -m venv zipnn-env
    zipnn-env/bin/pip install zipnn numpy
    zipnn-env/bin/python zipnn_peer.py model.safetensors bfloat16

Prints JSON: `each`, the bytes of the tensors compressed one by one, as a file has them
of which each can be read alone; `whole`, of all values at once; and `seconds` for the
first of these, on two threads.
"""

import importlib
import json
import sys
import time
from pathlib import Path


def tensors(path: str) -> list[bytes]:
    """The values of each tensor of a safetensors file."""
    data = Path(path).read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    offsets = sorted(entry["data_offsets"] for entry in header.values())
    return [data[start + first : start + end] for first, end in offsets]


def main() -> None:
    """Measures a file, of which all tensors have one dtype."""
    path, dtype = sys.argv[1:]
    zipnn = importlib.import_module("zipnn")
    coder = zipnn.ZipNN(input_format="byte", bytearray_dtype=dtype, threads=2)
    values = tensors(path)
    # It works in place, so each gets a copy.
    began = time.perf_counter()
    each = sum(len(coder.compress(bytearray(own))) for own in values)
    seconds = time.perf_counter() - began
    whole = len(coder.compress(bytearray(b"".join(values))))
    print(json.dumps({"each": each, "whole": whole, "seconds": seconds}))


if __name__ == "__main__":
    main()
