"""The ONNX form of an architecture: a ModelProto, channels first, nodes under their own names. Imported lazily.

It is written node by node from the description, not traced through another framework: names, padding and weights are those of
the architecture, and no other framework has to be installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper

from models.architecture import (
    INPUT,
    Add,
    Architecture,
    BatchNorm,
    Conv2d,
    Dense,
    DepthwiseConv2d,
    Flatten,
    GlobalAveragePool,
    MaxPool,
    Node,
    Relu,
    Relu6,
)

Arrays = Mapping[str, NDArray[np.float32]]

OPSET = 21
"""The first that stores 4-bit and 16-bit integers and scales per block (DequantizeLinear-21)."""
IR_VERSION = 10
OUTPUT = "logits"
BATCH = "batch"


def build(architecture: Architecture, weights: Arrays, name: str) -> ModelProto:
    """A model that takes INPUT [batch, C, H, W] float32 and returns OUTPUT [batch, classes].

    Initializers keep the canonical names of `weights` ("conv1.weight"); a tensor is called like the node that computes it.
    """
    constants = dict(weights)
    if any(isinstance(node, Relu6) for node in architecture.nodes):
        constants |= {"zero": np.array(0, np.float32), "six": np.array(6, np.float32)}
    height, width, channels = architecture.input_shape
    classes = architecture.shapes[architecture.output][-1]
    graph = helper.make_graph(
        [proto for node in architecture.nodes for proto in _protos(node, architecture)],
        name,
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [BATCH, channels, height, width])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [BATCH, classes])],
        [numpy_helper.from_array(np.ascontiguousarray(array, np.float32), key) for key, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    checker.check_model(model, full_check=True)
    return model


def _protos(node: Node, architecture: Architecture) -> list[NodeProto]:
    """The operations of one node; the last of them carries its name and gives its output."""
    output = OUTPUT if node.name == architecture.output else node.name
    shape = architecture.shapes[node.inputs[0]]
    constants = [f"{node.name}.{key}" for key in node.weight_shapes(shape)]
    sources = [*node.inputs, *constants]

    def operation(kind: str, inputs: list[str] = sources, **attributes: Any) -> list[NodeProto]:
        return [helper.make_node(kind, inputs, [output], name=node.name, **attributes)]

    match node:
        case Conv2d() | DepthwiseConv2d():
            before, after = node.padding
            groups = shape[-1] if isinstance(node, DepthwiseConv2d) else 1
            window: dict[str, Any] = {
                "kernel_shape": [node.kernel] * 2,
                "strides": [node.stride] * 2,
                "pads": [before, before, after, after],
            }
            return operation("Conv", group=groups, **window)
        case Dense():
            return operation("Gemm", transB=1)
        case BatchNorm():
            return operation("BatchNormalization", epsilon=node.epsilon)
        case Relu():
            return operation("Relu")
        case Relu6():
            return operation("Clip", [*sources, "zero", "six"])
        case MaxPool():
            return operation("MaxPool", kernel_shape=[node.size] * 2, strides=[node.size] * 2)
        case GlobalAveragePool():
            pooled = f"{node.name}_image"
            pool = helper.make_node("GlobalAveragePool", sources, [pooled], name=pooled)
            return [pool, *operation("Flatten", [pooled])]
        case Flatten():
            return operation("Flatten")
        case Add():
            return operation("Add")
    raise NotImplementedError(f"no ONNX form of {type(node).__name__}")
