"""The evaluation engine: a float PyTorch module made to run as often as possible, for analyses that need many passes.

The module is traced once into a `torch.fx` graph, batch norms are folded into the layers before them, activation functions
work in place, images lie channels last and run in small batches; `sensitivity.report.MALLOC` in the environment keeps glibc
from giving memory back between layers. One *evaluation pass* is one run of this engine over all its samples: the unit that
analyses state their cost in.

A changed layer only changes what comes after it: `Prefix` keeps what a batch gave at every node and computes what depends on
the layer. The same operations then see the same inputs, so results are bit-exact. Needs torch; runs in processes of its own.
"""

from __future__ import annotations

import math
import operator
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx import GraphModule, Node
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn.utils.fusion import fuse_conv_bn_eval

from quantizers.errors import Unsupported

BATCH_BYTES = 40 << 20
"""The largest activation of a batch stays below this, within the limits of `_BATCH`."""
_BATCH = (16, 64)
"""On one thread PyTorch leaves small kernels to oneDNN from 16 samples on (ATen/native/Convolution.cpp, use_mkldnn)."""
WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.Linear)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_IN_PLACE = (nn.ReLU, nn.ReLU6)

Weights = Mapping[str, Tensor]
"""Weights by layer name that stand in for the float ones."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A weighted layer: `calls` are the places where the graph runs it, `macs` its multiplications per sample."""

    name: str
    module: nn.Module
    calls: tuple[Node, ...]
    macs: int

    @property
    def parameter(self) -> nn.Parameter:
        parameter = self.module.weight
        assert isinstance(parameter, nn.Parameter)
        return parameter

    @property
    def weight(self) -> Tensor:
        """Output channels first."""
        return self.parameter.detach()


class Engine:
    """A module and the samples it is evaluated on.

    Attributes:
        layers: the weighted layers in execution order, batch norms folded.
        samples: [N, …] as the module takes them.
        batch: samples that run at once.

    Args:
        module: in eval mode; a copy of it is changed.
        batch: None chooses by the size of the activations.

    Raises:
        Unsupported: the module cannot be traced into a graph, gives no tensor, or has no convolution or dense layer.
    """

    def __init__(self, module: nn.Module, samples: Tensor, batch: int | None = None) -> None:
        self.graph_module = _optimized(module)
        self.samples = laid_out(samples)
        with torch.inference_mode():
            output = ShapeProp(self.graph_module).propagate(self.samples[:1])
        if not isinstance(output, Tensor):
            raise Unsupported("The model gives several outputs; only one tensor can be compared.")
        self.batch = batch or _batch_size(self.graph_module)
        self.layers = _layers(self.graph_module)
        if not self.layers:
            raise Unsupported("The model has no convolution or dense layer, so there is nothing to quantize.")

    def __len__(self) -> int:
        return len(self.samples)

    def batches(self) -> Sequence[Tensor]:
        return torch.split(self.samples, self.batch)

    def run(self, weights: Weights | None = None) -> Tensor:
        """Outputs [N, …] of all samples, with `weights` in the place of the layers' own: one evaluation pass."""
        with torch.inference_mode(), self.replaced(weights or {}):
            return torch.cat([self.graph_module(batch) for batch in self.batches()])

    def pass_seconds(self, repeats: int = 3) -> float:
        """What one evaluation pass takes now: the median of `repeats`."""

        def once() -> float:
            began = time.perf_counter()
            self.run()
            return time.perf_counter() - began

        return median(once() for _ in range(repeats))

    @contextmanager
    def replaced(self, weights: Weights) -> Iterator[None]:
        """The layers have other weights within the context."""
        layers = {layer.name: layer for layer in self.layers}
        own = {name: layers[name].parameter.data for name in weights}
        try:
            for name, weight in weights.items():
                layers[name].parameter.data = laid_out(weight)
            yield
        finally:
            for name, weight in own.items():
                layers[name].parameter.data = weight


class Prefix:
    """A batch that ran through an engine in float, remembered at every node. `output` is what it gave."""

    def __init__(self, engine: Engine, batch: Tensor) -> None:
        self._engine = engine
        self._interpreter = fx.Interpreter(engine.graph_module, garbage_collect_values=False)
        with torch.inference_mode():
            self.output: Tensor = self._interpreter.run(batch)
        self._values = dict(self._interpreter.env)

    def resume(self, layer: Layer, weight: Tensor) -> Tensor:
        """The batch's output with another weight in one layer, computed from that layer on."""
        values: dict[Node, Any] = dict(self._values)
        self._interpreter.env = values
        steps = _affected(layer)
        with torch.inference_mode(), self._engine.replaced({layer.name: weight}):
            for node, spent in steps:
                values[node] = self._interpreter.run_node(node)
                for source in spent:
                    del values[source]
        output: Tensor = values[steps[-1][0]]
        return output


def _affected(layer: Layer) -> list[tuple[Node, list[Node]]]:
    """The nodes that a layer's weight has an effect on, in execution order, each with the values nobody needs after it."""
    nodes: dict[Node, None] = {}
    for node in layer.calls[0].graph.nodes:
        if node in layer.calls or any(source in nodes for source in node.all_input_nodes):
            nodes[node] = None
    last = {source: node for node in nodes for source in node.all_input_nodes if source in nodes}
    return [(node, [source for source in node.all_input_nodes if last.get(source) is node]) for node in nodes]


class _Tracer(fx.Tracer):
    """Keeps every layer one node, also where a subclass of PyTorch's adds padding of its own."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, WEIGHTED) or super().is_leaf_module(m, module_qualified_name)


def _optimized(module: nn.Module) -> GraphModule:
    """A copy of `module` as a graph with its batch norms folded, working in place where nobody notices."""
    module = deepcopy(module).eval().requires_grad_(False)
    try:
        graph_module = GraphModule(module, _Tracer().trace(module))
    except Exception as error:  # whatever the model's own code raises when it is traced
        first = str(error).strip().split("\n")[0]
        raise Unsupported(
            f"PyTorch cannot trace the model: {type(error).__name__}: {first}", "Its control flow depends on values."
        ) from error
    for node in list(graph_module.graph.nodes):
        if isinstance(_called(node), _NORMS) and _is_layer(node.args[0]) and _read_once(node.args[0]):
            _fold(node)
        elif isinstance(called := _called(node), _IN_PLACE) and _is_fresh(node.args[0]) and _read_once(node.args[0]):
            called.inplace = True
    graph_module.graph.lint()
    graph_module.recompile()
    graph_module.delete_all_unused_submodules()
    for parameter in graph_module.parameters():
        parameter.data = laid_out(parameter.data)
    return graph_module


def _fold(norm: Node) -> None:
    """Puts a batch norm into the layer before it."""
    source = norm.args[0]
    assert isinstance(source, Node)
    root: Any = norm.graph.owning_module
    owner, _, name = str(source.target).rpartition(".")
    folded = fuse_conv_bn_eval(_called(source), _called(norm))
    setattr(root.get_submodule(owner), name, folded.requires_grad_(False))
    norm.replace_all_uses_with(source)
    norm.graph.erase_node(norm)


def _is_layer(node: Any) -> bool:
    return isinstance(_called(node), WEIGHTED)


def _is_fresh(node: Any) -> bool:
    """Whether a node's value is memory of its own, and not a view of what it read."""
    return _is_layer(node) or (isinstance(node, Node) and node.target is operator.add)


def _read_once(node: Node) -> bool:
    return len(node.users) == 1


def _called(node: Any) -> Any:
    """The module that a node runs; None for other nodes."""
    if not isinstance(node, Node) or node.op != "call_module":
        return None
    root: Any = node.graph.owning_module
    return root.get_submodule(str(node.target))


def _layers(graph_module: GraphModule) -> tuple[Layer, ...]:
    calls: dict[str, list[Node]] = {}
    for node in graph_module.graph.nodes:
        if _is_layer(node):
            calls.setdefault(str(node.target), []).append(node)
    return tuple(_layer(name, nodes) for name, nodes in calls.items())


def _layer(name: str, calls: list[Node]) -> Layer:
    module: nn.Module = _called(calls[0])
    weight = module.weight
    assert isinstance(weight, nn.Parameter)
    outputs = sum(math.prod(node.meta["tensor_meta"].shape) for node in calls)
    return Layer(name, module, tuple(calls), outputs * weight[0].numel())


def _batch_size(graph_module: GraphModule) -> int:
    metas = [node.meta.get("tensor_meta") for node in graph_module.graph.nodes]
    largest = max(math.prod(meta.shape) * meta.dtype.itemsize for meta in metas if hasattr(meta, "shape"))
    size: int = min(max(BATCH_BYTES // largest, _BATCH[0]), _BATCH[1])
    return size


def laid_out(tensor: Tensor) -> Tensor:
    """Images and their kernels channels last, the layout that oneDNN's convolutions are fastest in."""
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor.contiguous()
