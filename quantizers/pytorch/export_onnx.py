"""A quantized PyTorch model as Q/DQ ONNX: the same integers, between QuantizeLinear and DequantizeLinear operations.

torch's own exporter writes the graph; what it has no translation for, packed weights, is unpacked before and packed again
after, into ONNX's INT4. Layers, and the weights they read, carry the names they have everywhere else in this program.
"""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.fx import GraphModule

from quantizers.errors import Unsupported
from quantizers.pytorch.graph import constant, decomposed, is_dynamic, is_packed, is_quantize, layers
from quantizers.pytorch.model import TorchModel
from quantizers.pytorch.packing import unpack
from quantizers.pytorch.program import export
from quantizers.schema import QuantizedLayer

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

OPSET = 21
"""The first with INT4 and 16-bit activations."""
_LAYER_OPERATIONS = ("Conv", "Gemm", "MatMul")
_BITS = 4


def to_qdq_onnx(model: TorchModel, path: Path) -> None:
    """Writes `model` to `path`, for any batch size, with weights inside the file.

    Raises:
        Unsupported: ranges are measured while running, or weights have groups or fewer than 4 bits, for which an ONNX file has
            no form that every runtime reads.
    """
    import onnx

    _check(model)
    sample = next(node for node in model.program.graph.nodes if node.op == "placeholder").meta["val"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch copies and exports graphs with calls that torch itself has deprecated
        program = _unpacked(copy.deepcopy(model.program))
        exported = export(program, torch.zeros((2, *sample.shape[1:]), dtype=sample.dtype))
        written = torch.onnx.export(exported, opset_version=OPSET, external_data=False, verbose=False)
    assert written is not None
    proto = written.model_proto
    _name_layers(proto, model.described)
    onnx.checker.check_model(proto)
    onnx.save(proto, path)


def _check(model: TorchModel) -> None:
    if any(is_quantize(node) and is_dynamic(node) for node in model.program.graph.nodes):
        raise Unsupported("Ranges that are measured while running have no Q/DQ form.", "Export a calibrated technique.")
    for layer in model.described:
        params = layer.weight.params
        if params is not None and (params.group_size or params.bits < _BITS):
            kind = f"groups of {params.group_size}" if params.group_size else layer.weight.dtype
            raise Unsupported(f"The weight of {layer.name} has {kind}, which Q/DQ ONNX has no form for.", "Use 4 or 8 bits.")


def _unpacked(program: GraphModule) -> GraphModule:
    """Changes `program` in place: packed weights become int8 codes behind an ordinary dequantize operation."""
    for layer in layers(program.graph):
        operation: Any = layer.args[1]
        if not is_packed(operation):
            continue
        packed, scale, zero, bits, _, shape = operation.args
        highest = (1 << (bits - 1)) - 1
        tensors = {
            "codes": unpack(constant(program, packed), bits, shape),
            "scale": constant(program, scale).flatten(),
            "zero_point": constant(program, zero).flatten() if zero is not None else torch.zeros(shape[0], dtype=torch.int8),
        }
        with program.graph.inserting_before(operation):
            attributes = []
            for kind, tensor in tensors.items():
                program.register_buffer(f"{layer.name}_{kind}", tensor)
                attributes.append(program.graph.get_attr(f"{layer.name}_{kind}"))
            codes, *grid = attributes
            arguments = (codes, *grid, 0, -highest - 1, highest, torch.int8)
            dequantize = program.graph.call_function(decomposed.dequantize_per_channel.default, arguments)
        operation.replace_all_uses_with(dequantize)
        program.graph.erase_node(operation)
    program.recompile()
    return program


def _name_layers(proto: ModelProto, described: tuple[QuantizedLayer, ...]) -> None:
    """torch's exporter keeps the order of the weighted operations and numbers them; they get their layers' names."""
    nodes = [node for node in proto.graph.node if node.op_type in _LAYER_OPERATIONS]
    if len(nodes) != len(described):
        raise Unsupported(f"torch's exporter turned {len(described)} layers into {len(nodes)}.", "Export another model.")
    producers = {output: node for node in proto.graph.node for output in node.output}
    for node, layer in zip(nodes, described, strict=True):
        node.name = layer.name
        dequantize = producers.get(node.input[1])
        if dequantize is not None and dequantize.op_type == "DequantizeLinear":
            dequantize.name = f"{layer.name}.weight_dequantized"
            _own_grid(proto, dequantize, layer)


def _own_grid(proto: ModelProto, dequantize: NodeProto, layer: QuantizedLayer) -> None:
    """Gives a layer initializers of its own for codes, scale and zero point, in the type that they have in the artefact."""
    from onnx import TensorProto, helper, numpy_helper

    initializers = {one.name: one for one in proto.graph.initializer}
    narrow = layer.weight.dtype == "int4"
    for place, kind in enumerate(("weight", "weight_scale", "weight_zero_point")[: len(dequantize.input)]):
        values, name = numpy_helper.to_array(initializers[dequantize.input[place]]), f"{layer.name}.{kind}"
        if narrow and values.dtype == np.int8:
            own = helper.make_tensor(name, TensorProto.INT4, values.shape, values.ravel().tolist())
        else:
            own = numpy_helper.from_array(values, name)
        proto.graph.initializer.append(own)
        dequantize.input[place] = name
    read = {name for node in proto.graph.node for name in node.input}
    unread = [one for one in proto.graph.initializer if one.name not in read]
    for one in unread:
        proto.graph.initializer.remove(one)
