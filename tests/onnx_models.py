"""Small ONNX models, written by the library that defines the format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save

# Nodes between the input `x` and the output `y`, and the constants that they take.
Body = Callable[[], tuple[list[Any], list[Any]]]


def constant(name: str, value: Any, kind: Any = np.int64) -> Any:
    return numpy_helper.from_array(np.array(value, kind), name)


def red() -> tuple[list[Any], list[Any]]:
    """The first of the three planes that it is given."""
    node = helper.make_node("Slice", ["x", "start", "end", "axis"], ["y"])
    return [node], [constant("start", [0]), constant("end", [1]), constant("axis", [1])]


def red_of_colours() -> tuple[list[Any], list[Any]]:
    """The same, ImageNet's normalisation undone: the red of the picture, in [0, 1]."""
    (node,), constants = red()
    node.output[0] = "plane"
    nodes = [
        node,
        helper.make_node("Mul", ["plane", "deviation"], ["scaled"]),
        helper.make_node("Add", ["scaled", "mean"], ["y"]),
    ]
    return nodes, [*constants, constant("deviation", 0.229, np.float32), constant("mean", 0.485, np.float32)]


def whole() -> tuple[list[Any], list[Any]]:
    """All three planes, which no segmentation model gives."""
    return [helper.make_node("Identity", ["x"], ["y"])], []


def without_numbers() -> tuple[list[Any], list[Any]]:
    """The logarithm of what is below 0."""
    (node,), constants = red()
    node.output[0] = "plane"
    squares = [helper.make_node("Mul", ["plane", "plane"], ["square"]), helper.make_node("Neg", ["square"], ["below"])]
    return [node, *squares, helper.make_node("Log", ["below"], ["y"])], constants


def write_model(path: Path, body: Body, shape: Sequence[int | str], kind: int = TensorProto.FLOAT) -> Path:
    """Writes a model that takes x of this shape; a word stands for any size."""
    nodes, constants = body()
    input_info = helper.make_tensor_value_info("x", kind, shape)
    output_info = helper.make_tensor_value_info("y", kind, ["count", "planes", "height", "width"])
    graph = helper.make_graph(nodes, "small", [input_info], [output_info], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    save(model, path)
    return path
