"""ONNX Runtime's dynamic quantization: weights in int8, a scale for each output.

    python -m venv peers && peers/bin/pip install nncodec onnx onnxruntime
    peers/bin/python onnxruntime_peer.py "int8" in.npz file out.npz TABLE...

The network is written as an ONNX model with a product for each matrix, a look-up for
each named table, and all vectors. What is decoded are its weights: that activations are
rounded too when such a model runs is not counted against it.
"""

import importlib
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx  # pyright: ignore[reportMissingImports]
from onnx import (  # pyright: ignore[reportMissingImports]
    TensorProto,
    helper,
    numpy_helper,
)


def main(setting: str, source: str, target: str, decoded: str, *tables: str) -> None:
    """Quantizes the arrays of a file; "int8 + zstd" also compresses the model."""
    from onnxruntime.quantization import (  # pyright: ignore[reportMissingImports]
        QuantType,
        quantize_dynamic,
    )

    with np.load(source) as file:
        arrays = {name: file[name] for name in file.files}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(_model(arrays, tables), path)
        small = path.with_name("small.onnx")
        quantize_dynamic(path, small, per_channel=True, weight_type=QuantType.QInt8)
        data = small.read_bytes()
    weights = _weights(onnx.load_from_string(data), arrays, tables)
    np.savez(decoded, allow_pickle=False, **weights)
    if setting.endswith("zstd"):
        data = importlib.import_module("zstandard").compress(data, 19)
    Path(target).write_bytes(data)


def _model(arrays: dict[str, np.ndarray], tables: tuple[str, ...]) -> onnx.ModelProto:
    """A model in which each array is used once."""
    nodes, inputs, outputs, values = [], [], [], []
    for name, array in arrays.items():
        x, y = f"{name}-x", f"{name}-y"
        out = helper.make_tensor_value_info(y, TensorProto.FLOAT, None)
        kind, shape = TensorProto.FLOAT, ["n", array.shape[-1]]
        if name in tables:
            kind, shape = TensorProto.INT64, ["n"]
            nodes.append(helper.make_node("Gather", [name, x], [y]))
        elif array.ndim == 2:
            array = np.ascontiguousarray(array.T)
            nodes.append(helper.make_node("MatMul", [x, name], [y]))
        else:
            nodes.append(helper.make_node("Add", [x, name], [y]))
        inputs.append(helper.make_tensor_value_info(x, kind, shape))
        outputs.append(out)
        values.append(numpy_helper.from_array(array, name))
    graph = helper.make_graph(nodes, "network", inputs, outputs, values)
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=9)


def _weights(
    model: onnx.ModelProto, arrays: dict[str, np.ndarray], tables: tuple[str, ...]
) -> dict[str, np.ndarray]:
    """The arrays that a model computes with."""
    stored = {x.name: numpy_helper.to_array(x) for x in model.graph.initializer}
    found = {}
    for name, array in arrays.items():
        if name in stored:
            own = stored[name]
        else:
            labels = stored[f"{name}_quantized"].astype(np.float32)
            own = (labels - stored[f"{name}_zero_point"]) * stored[f"{name}_scale"]
        turned = array.ndim == 2 and name not in tables
        found[name] = own.T if turned else own.reshape(array.shape)
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
