"""NNCodec, the reference coder of MPEG's NNC standard (DeepCABAC), on label tensors.

It needs NumPy 1, so give it an environment of its own (Python 3.11, a C++ compiler):

    python -m venv nncodec-env
    nncodec-env/bin/pip install "numpy<2"
    nncodec-env/bin/pip install --no-deps nncodec==2.1.3
    nncodec-env/bin/python nncodec_peer.py labels.npz sizes.json

NNCodec says that it also needs PyTorch, torchvision, OpenCV and more. Its coder does
not: only its adapters for models do, and they are left out here.

The input has one int32 array for each tensor of a network: labels, signed, zero for a
pruned weight, small for centroids near zero (-1 the first below it, 1 the first above).
The output, JSON, has bytes, seconds to encode and seconds to decode for all tensors in
one bitstream and for each tensor alone. Every decoded array is compared with the input.
Shapes and names are in these bitstreams; codebooks and the axes' order are not.

NNCodec codes int32 arrays without loss: steps of quantization (`qp`, `opt_qp`) and
dependent quantization (`use_dq`) do not apply to them. Of what is left, the smallest
bitstream is kept, and only it is timed, once the settings are known:

* the axes' order. NNCodec takes the first axis for rows, of output units; in JAX they
  come last. So, for each tensor: as given, the last axis first, the last two first;
* `row_skipping`, a flag for each row that is all zeros;
* `cabac_unary_length_minus1`, how many levels have contexts of their own;
* `param_opt`, the start and the speed of the contexts' estimates, signalled;
* `scan_order`: by rows, or in blocks of 64 x 64. Smaller blocks are larger in bytes.

Its codebook mode, for float32 arrays, is not tried. On 2.4 M labels its bitstreams were
some 40 bytes larger (so that it falls back to the plain one), after 20 s to 50 s: it
encodes once for each value of label. The seconds to encode are those of the interface;
they include a trial pass for `param_opt` and a decoding pass for entry points.
"""

import argparse
import importlib
import importlib.metadata
import json
import platform
import re
import statistics
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

_ROUNDS = 3
_LARGE = 4_000_000  # symbols from which one round does
_ADAPTERS = ("pytorch_model", "tensorflow_model", "use_case_init")
_CHOICES: dict[str, tuple[Any, ...]] = {
    "row_skipping": (False, True),
    "cabac_unary_length_minus1": (10, 0, 4, 7, 15),
    "param_opt": (True, False),
    "scan_order": (0, 4),
}

Arrays = dict[str, np.ndarray]
Settings = dict[str, Any]


class Codec(NamedTuple):
    """The two functions of NNCodec.

    Attributes:
        compress: Arrays and settings to a bitstream.
        decompress: A bitstream to arrays.
    """

    compress: Callable[..., bytearray]
    decompress: Callable[[bytearray], Arrays]


def main() -> None:
    """Measures a file of labels and writes the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("labels", type=Path, help=".npz of int32 arrays")
    parser.add_argument("output", type=Path, help=".json")
    args = parser.parse_args()
    labels = read(args.labels)
    codec = load()
    table = measure(codec, labels)
    args.output.write_text(json.dumps(table, indent=1) + "\n")
    whole = table["whole"]
    speed = whole["symbols"] / 1e6
    print(
        f"{whole['symbols']} labels: {whole['bytes']} bytes in one bitstream, "
        f"{sum(row['bytes'] for row in table['tensors'].values())} in one for each; "
        f"{speed / whole['encode_seconds']:.1f} M labels/s encoded, "
        f"{speed / whole['decode_seconds']:.1f} decoded"
    )


def read(path: Path) -> Arrays:
    """Reads label tensors.

    Args:
        path: An .npz file.

    Returns:
        The tensors by name, scalars as vectors of one. Names are changed, at equal
        length, where NNCodec would take them for factors of a matrix.

    Raises:
        ValueError: An array is not int32, or is empty; says which.
    """
    arrays = {}
    with np.load(path, allow_pickle=False) as file:
        for name in file.files:
            array = file[name]
            if array.dtype != np.int32 or not array.size:
                raise ValueError(f"{name}: {array.dtype}{list(array.shape)}, not int32")
            arrays[re.sub("_(?=[GH])", "-", name)] = np.atleast_1d(array)
    return arrays


def load() -> Codec:
    """Imports NNCodec without its adapters for frameworks."""
    framework = types.ModuleType("nncodec.framework")
    for name in _ADAPTERS:
        setattr(framework, name, None)
    sys.modules[framework.__name__] = framework
    nnc = importlib.import_module("nncodec.nnc")

    def compress(arrays: Arrays, **settings: Any) -> bytearray:
        return nnc.compress(
            arrays,
            bitstream_path=None,
            return_bitstream=True,
            use_dq=False,
            **settings,
        )

    return Codec(compress, nnc.decompress)


def measure(codec: Codec, labels: Arrays) -> dict[str, Any]:
    """Measures each tensor alone and all together.

    Args:
        codec: The coder.
        labels: The tensors by name.

    Returns:
        What is written as JSON.
    """
    turned: Arrays = {}
    rows = {}
    for name, array in labels.items():
        axes = _best_axes(codec, name, array)
        turned[name] = _turn(array, axes)
        rows[name] = {
            "shape": list(array.shape),
            "axes": list(axes),
            **_row(codec, {name: turned[name]}),
        }
    return {
        "codec": f"nncodec {importlib.metadata.version('nncodec')}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "whole": _row(codec, turned),
        "tensors": rows,
    }


def _best_axes(codec: Codec, name: str, array: np.ndarray) -> tuple[int, ...]:
    """The order of axes that gives the fewest bytes, the given one first."""
    order = tuple(range(array.ndim))
    orders = [order, order[-1:] + order[:-1], order[:-3:-1] + order[:-2]]
    return min(
        dict.fromkeys(orders),
        key=lambda axes: len(codec.compress({name: _turn(array, axes)})),
    )


def _turn(array: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """The array with its axes in another order, contiguous."""
    return np.ascontiguousarray(array.transpose(axes))


def _row(codec: Codec, arrays: Arrays) -> dict[str, Any]:
    """Finds the settings, then times coding with them and checks the result.

    Raises:
        RuntimeError: A tensor did not come back as it was; says which.
    """
    settings = _search(codec, arrays)
    symbols = sum(array.size for array in arrays.values())
    encode, decode = [], []
    stream = bytearray()
    for _ in range(1 if symbols >= _LARGE else _ROUNDS):
        start = time.perf_counter()
        stream = codec.compress(arrays, **settings)
        middle = time.perf_counter()
        decoded = codec.decompress(stream)
        decode.append(time.perf_counter() - middle)
        encode.append(middle - start)
        for name, array in arrays.items():
            back = decoded[name]
            if back.dtype != array.dtype or not np.array_equal(back, array):
                raise RuntimeError(f"{name}: the labels came back changed")
    return {
        "symbols": symbols,
        "zeros": symbols - sum(np.count_nonzero(array) for array in arrays.values()),
        "bytes": len(stream),
        "encode_seconds": statistics.median(encode),
        "decode_seconds": statistics.median(decode),
        "settings": settings,
    }


def _search(codec: Codec, arrays: Arrays) -> Settings:
    """The settings with the fewest bytes, one after another, the default one first."""
    best = {name: values[0] for name, values in _CHOICES.items()}
    size = len(codec.compress(arrays, **best))
    for name, values in _CHOICES.items():
        if name == "scan_order" and not all(map(_has_blocks, arrays.values())):
            continue
        for value in values[1:]:
            trial = best | {name: value}
            length = len(codec.compress(arrays, **trial))
            if length < size:
                best, size = trial, length
    return best


def _has_blocks(array: np.ndarray) -> bool:
    """Whether NNCodec can scan it in blocks: it fails on one row or one column."""
    return array.ndim < 2 or 1 < len(array) < array.size


if __name__ == "__main__":
    main()
