"""Nodes inside nodes: the branches of If and the bodies of Loop and Scan are graphs of their own, in which layers can sit.

Everything that looks for layers walks all graphs, and every name is made unique first, so that one flat index will do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from onnx import GraphProto, ModelProto, NodeProto, TensorProto


def inner(node: NodeProto) -> Iterator[tuple[str, GraphProto]]:
    """The graphs inside a node, by the attribute that holds them."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.name, attribute.g
        for graph in attribute.graphs:
            yield attribute.name, graph


def walk(graph: GraphProto) -> Iterator[NodeProto]:
    """All nodes, each followed by those inside it."""
    for node in graph.node:
        yield node
        for _, body in inner(node):
            yield from walk(body)


def bodies(graph: GraphProto) -> Iterator[GraphProto]:
    """All graphs inside a graph."""
    for node in graph.node:
        for _, body in inner(node):
            yield body
            yield from bodies(body)


def make_unique(model: ModelProto) -> int:
    """Gives every node a name of its own, and every tensor inside a node one that tells where it is, in place.

    Returns:
        How many nodes had no name, or one that another has too.
    """
    for node in model.graph.node:
        _rename_inside(node, node.name or node.output[0], {})
    taken = Counter(node.name for node in walk(model.graph))
    renamed = 0
    for node in walk(model.graph):
        if node.name and taken[node.name] == 1:
            continue
        base = f"{node.op_type}_{next((name for name in node.output if name), 'nothing')}"
        taken[node.name] -= 1
        node.name = base if not taken[base] else f"{base}_{taken[base]}"
        taken[node.name] += 1
        renamed += 1
    return renamed


def lift(model: ModelProto) -> int:
    """Moves constants out of Constant nodes, and float ones out of inner graphs, to where weights belong, in place.

    Every graph reads the constants of the graph around it, so that a weight inside a branch can be replaced from outside.

    Returns:
        How many were moved. Names have to be unique.
    """
    moved = _lift_nodes(model.graph, model.graph, everything=True)
    for body in list(bodies(model.graph)):
        moved += _lift_nodes(body, model.graph, everything=False)
        results = {output.name for output in body.output}
        wanted = [one for one in body.initializer if one.data_type == TensorProto.FLOAT and one.name not in results]
        for tensor in wanted:
            model.graph.initializer.append(tensor)
            body.initializer.remove(tensor)
        moved += len(wanted)
    return moved


def separate_biases(model: ModelProto) -> int:
    """Gives every layer a bias of its own, in place, and returns how many it copied.

    The runtime's tools quantize a bias by its layer's scales, and name the copies of a shared one by adding a number, which
    can be the name of another tensor.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    layers = [node for node in walk(model.graph) if node.op_type in ("Conv", "Gemm") and len(node.input) > 2]
    readers = Counter(node.input[2] for node in layers)
    shared = [node for node in layers if readers[node.input[2]] > 1 and node.input[2] in constants]
    for node in shared:
        copy = model.graph.initializer.add()
        copy.CopyFrom(constants[node.input[2]])
        copy.name = f"{node.name}.bias"
        while copy.name in constants:
            copy.name += "_"
        constants[copy.name] = copy
        node.input[2] = copy.name
    return len(shared)


def _lift_nodes(source: GraphProto, target: GraphProto, *, everything: bool) -> int:
    results = {output.name for output in source.output}
    moved = 0
    for node in list(source.node):
        value = node.attribute[0] if node.op_type == "Constant" and len(node.attribute) == 1 else None
        if value is None or value.name != "value" or node.output[0] in results:
            continue
        if everything or value.t.data_type == TensorProto.FLOAT:
            value.t.name = node.output[0]
            target.initializer.append(value.t)
            source.node.remove(node)
            moved += 1
    return moved


def _rename_inside(node: NodeProto, path: str, outer: Mapping[str, str]) -> None:
    """Prefixes what the graphs inside `node` define with `path`; `outer` holds the new names of what lies around them."""
    for attribute, body in inner(node):
        place = f"{path}/{attribute}/"
        defined = [one.name for one in (*body.input, *body.initializer)]
        defined += [name for step in body.node for name in step.output if name]
        names = {**outer, **{name: _under(place, name) for name in defined}}
        for one in (*body.input, *body.initializer, *body.output, *body.value_info):
            one.name = names.get(one.name, one.name)
        for step in body.node:
            step.input[:] = [names.get(name, name) for name in step.input]
            step.output[:] = [names.get(name, name) for name in step.output]
            step.name = _under(place, step.name or step.op_type)
            _rename_inside(step, step.name, names)


def _under(place: str, name: str) -> str:
    return name if name.startswith(place) else place + name
