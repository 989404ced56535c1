"""NNCodec, the reference coder of MPEG's NNC standard, on float32 arrays.

    python -m venv peers && peers/bin/pip install nncodec onnx onnxruntime
    peers/bin/python nncodec_weights_peer.py "qp -24" in.npz file out.npz

Steps follow from `qp`, by default relative to each tensor (`opt_qp`); labels are chosen
by dependent quantization (`use_dq`). Vectors keep its very fine step.
"""

import sys
from pathlib import Path

import numpy as np
from nncodec.nnc import (  # pyright: ignore[reportMissingImports]
    compress,
    decompress,
)


def main(setting: str, source: str, target: str, decoded: str, *_: str) -> None:
    """Codes the arrays of a file at a setting "qp NUMBER"."""
    with np.load(source) as file:
        arrays = {name: file[name] for name in file.files}
    data = compress(
        arrays, bitstream_path=None, return_bitstream=True, qp=int(setting.split()[1]),
        use_dq=True, opt_qp=True,
    )  # fmt: skip
    Path(target).write_bytes(data)
    np.savez(decoded, **decompress(bytearray(Path(target).read_bytes())))


if __name__ == "__main__":
    main(*sys.argv[1:])
