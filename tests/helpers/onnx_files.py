"""ONNX files made by hand."""

from pathlib import Path

import onnx
from onnx import TensorProto, helper


def graph(path: Path, *, shape=("n", 3, 8, 8), kind=TensorProto.FLOAT, inputs=1) -> Path:
    """A file that returns its (first) input."""
    given = [helper.make_tensor_value_info(f"input{number}", kind, list(shape)) for number in range(inputs)]
    output = helper.make_tensor_value_info("output", kind, list(shape))
    made = helper.make_graph([helper.make_node("Identity", ["input0"], ["output"])], "g", given, [output])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path
