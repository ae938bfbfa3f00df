"""An index over the flat list that an ONNX graph is: who makes a tensor, who reads it, and which are constants."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from quantizers.onnxruntime.scopes import bodies, inner, walk


class Graph:
    """A read-only view of a model as it is when the view is made; nodes inside nodes follow the one that holds them."""

    def __init__(self, model: ModelProto) -> None:
        self.nodes = list(walk(model.graph))
        graphs = [model.graph, *bodies(model.graph)]
        self.outputs = {output.name for graph in graphs for output in graph.output}
        self._constants: dict[str, TensorProto] = {tensor.name: tensor for graph in graphs for tensor in graph.initializer}
        self._holders = {id(inside): node for node in model.graph.node for _, body in inner(node) for inside in walk(body)}
        self._producers = {name: node for node in self.nodes for name in node.output if name}
        self._readers: dict[str, list[NodeProto]] = defaultdict(list)
        for node in self.nodes:
            for name in node.input:
                self._readers[name].append(node)

    def producer(self, name: str, *kinds: str) -> NodeProto | None:
        """The node that computes a tensor, if it is one of `kinds` (any, when none is given)."""
        node = self._producers.get(name)
        return node if node is not None and (not kinds or node.op_type in kinds) else None

    def readers(self, name: str) -> list[NodeProto]:
        return self._readers.get(name, [])

    def sole_reader(self, name: str, *kinds: str) -> NodeProto | None:
        """The one node that reads a tensor, if it is one of `kinds` and the tensor is no output of the model."""
        readers = self.readers(name)
        alone = len(readers) == 1 and name not in self.outputs and readers[0].op_type in kinds
        return readers[0] if alone else None

    def holder(self, node: NodeProto) -> NodeProto | None:
        """The node of the main graph that a node lies inside; None for one of the main graph itself."""
        return self._holders.get(id(node))

    def is_constant(self, name: str) -> bool:
        return name in self._constants

    def array(self, name: str) -> NDArray[Any]:
        """A constant's values; integers under 8 bits are unpacked to int8 or uint8."""
        values: NDArray[Any] = numpy_helper.to_array(self._constants[name])
        kind = self.dtype(name)
        if kind in ("int2", "int4"):
            return values.astype(np.int8)
        return values.astype(np.uint8) if kind in ("uint2", "uint4") else values

    def dtype(self, name: str) -> str:
        """The type a constant is stored in, by NumPy's name or "int4", "uint2", …"""
        kind = TensorProto.DataType.Name(self._constants[name].data_type).lower()
        return "float32" if kind == "float" else kind


def attribute(node: NodeProto, name: str, default: Any) -> Any:
    """The value of a node's attribute, or `default` where it is not written."""
    found = next((entry for entry in node.attribute if entry.name == name), None)
    return default if found is None else helper.get_attribute_value(found)


def masked_softmaxes(model: ModelProto) -> list[str]:
    """Names of the softmax operations over scores that a computed mask was added to, and of those additions.

    What a mask adds to hide a value is thousands of times a score: on the grid of such a sum all scores have one code.
    """
    graph, found = Graph(model), []
    for softmax in graph.nodes:
        add = graph.producer(softmax.input[0], "Add") if softmax.op_type == "Softmax" else None
        if add is not None and not any(graph.is_constant(name) for name in add.input):
            found += [add.name, softmax.name]
    return found


def computing(model: ModelProto, name: str) -> ModelProto:
    """A copy of a model that computes one tensor of its main graph and nothing that this does not need."""
    part = ModelProto()
    part.CopyFrom(model)
    del part.graph.output[:]
    part.graph.output.append(ValueInfoProto(name=name))
    prune(part)
    return part


def prune(model: ModelProto) -> None:
    """Deletes what nothing reads any more: first nodes, last to first, then constants."""
    graph = model.graph
    wanted = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            wanted.update(name for _, body in inner(node) for inside in walk(body) for name in inside.input)
            wanted.update(output.name for _, body in inner(node) for output in body.output)
            kept.append(node)
    constants = [tensor for tensor in graph.initializer if tensor.name in wanted]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(constants)
