"""Reading an exported program (a `torch.fx` graph of aten operations): its layers, their names and their parameters."""

from __future__ import annotations

from functools import reduce
from typing import Any

import torch
import torch.ao.quantization.fx._decomposed  # only registers the Q/DQ operations; without it no artefact loads
from numpy.typing import NDArray
from torch.fx import Graph, GraphModule, Node

from quantizers.pytorch import packing
from quantizers.schema import QuantParams

aten = torch.ops.aten
decomposed = torch.ops.quantized_decomposed

DENSE = frozenset({aten.linear.default})
CONVOLUTIONS_3D = frozenset({aten.conv3d.default, aten.conv3d.padding})
WEIGHTED = DENSE | {
    overload
    for name in ("conv1d", "conv2d", "conv3d")
    for overload in (getattr(aten, name).default, getattr(aten, name).padding)
}
"""Operations that are layers: arguments (input, weight, bias, …), output channels along axis 0 of the weight."""

ACTIVATIONS = frozenset(getattr(aten, name).default for name in ("relu", "relu_", "relu6", "relu6_", "hardtanh", "hardtanh_"))
"""Functions that backends fuse into the layer before them."""


def layers(graph: Graph) -> list[Node]:
    """The weighted operations, in execution order."""
    return [node for node in graph.nodes if node.op == "call_function" and node.target in WEIGHTED]


def layer_name(node: Node) -> str:
    """The fully qualified name of the module a node came from; the node's own name when export kept none."""
    stack = node.meta.get("nn_module_stack") or {}
    return (list(stack.values())[-1][0] if stack else "") or node.name


def output_of(layer: Node) -> Node:
    """What the next operation reads: the layer's own output, or that of the activation function right behind it."""
    users = list(layer.users)
    return users[0] if len(users) == 1 and users[0].target in ACTIVATIONS else layer


def handed_on(layer: Node) -> Node:
    """The node whose value the next operation reads: behind the output's own quantize and dequantize where it has them."""
    node = output_of(layer)
    quantize = next((user for user in node.users if is_quantize(user) and not is_dynamic(user)), None)
    readers = () if quantize is None else quantize.users
    return next((user for user in readers if is_dequantize(user)), node)


def is_quantize(node: Any) -> bool:
    return isinstance(node, Node) and str(node.target).startswith("quantized_decomposed.quantize_per_")


def is_dequantize(node: Any) -> bool:
    return isinstance(node, Node) and str(node.target).startswith("quantized_decomposed.dequantize_per_")


def is_packed(node: Any) -> bool:
    """Whether a node turns packed codes into numbers."""
    return isinstance(node, Node) and node.target is packing.OPERATION


def is_cast(node: Any) -> bool:
    """Whether a node gives another float type to what it reads."""
    return isinstance(node, Node) and node.target is aten.to.dtype


def is_dynamic(node: Node) -> bool:
    """Whether a quantize or dequantize takes a scale that was measured while running."""
    return isinstance(node.args[1], Node) and node.args[1].op != "get_attr"


def constant(module: GraphModule, node: Node) -> torch.Tensor:
    """The parameter or buffer that a `get_attr` node reads."""
    value: Any = reduce(getattr, str(node.target).split("."), module)
    tensor: torch.Tensor = value.detach()
    return tensor


def array(module: GraphModule, node: Node) -> NDArray[Any]:
    """A copy of `constant` for NumPy, which knows no bfloat16: that becomes float32, with the same values."""
    tensor = constant(module, node)
    return (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy().copy()


def quant_params(module: GraphModule, node: Node) -> QuantParams:
    """The parameters of a static quantize or dequantize node."""
    arguments: Any = node.args
    if "per_channel" in str(node.target):
        scale, zero_point = (array(module, tensor) for tensor in arguments[1:3])
        axis, qmin, qmax, dtype = arguments[3:7]
    else:
        axis, (scale, zero_point, qmin, qmax, dtype) = None, arguments[1:6]
    return QuantParams(scale=scale, zero_point=zero_point, qmin=qmin, qmax=qmax, dtype=type_name(dtype), axis=axis)


def input_type(program: GraphModule) -> torch.dtype:
    """The float type that a program takes its samples in."""
    dtype: torch.dtype = next(node for node in program.graph.nodes if node.op == "placeholder").meta["val"].dtype
    return dtype


def looks_up(program: GraphModule) -> bool:
    """Whether a program finds rows of tables by the numbers it takes, which therefore have to stay exact."""
    return any(node.target is aten.embedding.default for node in program.graph.nodes)


def type_name(dtype: Any) -> str:
    """ "uint8" for torch.uint8."""
    return str(dtype).removeprefix("torch.")
