"""Better codes for weights, chosen on samples for what a layer puts out: PyTorch's methods on what ONNX Runtime computes.

It goes layer by layer. The float model tells what a layer should give, the model quantized so far what the layer will read, so
errors of the layers before it are made good as well. Both run batch by batch, and only moments are kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from onnx import ModelProto, NodeProto
from torch.fx import Graph as TorchGraph
from torch.fx import Node
from torch.nn import functional

from quantizers.adapter import Batch, Step
from quantizers.onnxruntime.graph import attribute, computing
from quantizers.onnxruntime.scopes import walk
from quantizers.onnxruntime.session import OnnxSession
from quantizers.pytorch.graph import aten
from quantizers.pytorch.refine import SAMPLES
from quantizers.pytorch.rounding import Moments, improved, moments
from quantizers.pytorch.walk import Arguments, run
from quantizers.pytorch.weights import Rounded
from quantizers.schema import Floats, Integers

_BATCH = 16


class OutputRounding:
    """Chooses codes on `samples`, for the layers of one model in their order.

    Args:
        method: "learned" or "compensated", of `quantizers.pytorch.rounding.improved`.
        prepared: the float model.
    """

    def __init__(self, method: str, prepared: ModelProto, samples: Batch) -> None:
        self._method = method
        self._prepared = prepared
        self._nodes = {node.name: node for node in walk(prepared.graph)}
        self._in_main_graph = {node.name for node in prepared.graph.node}
        self._samples = samples[:SAMPLES]
        self._changed: list[str] = []
        self._left: list[str] = []

    def codes(self, layer: str, weight: Floats, rounded: Rounded, so_far: ModelProto) -> Integers:
        """Codes on the grid of `rounded`, or those of `rounded` where nothing better was found.

        Args:
            weight: float, output channels first.
            so_far: the model with the layers before this one quantized.
        """
        node = self._nodes[layer]
        weight = np.array(weight, np.float32)  # constants of a file are read-only, which torch warns of
        form = _torch_form(node, weight) if layer in self._in_main_graph else None
        if form is None:
            self._left.append(layer)
            return rounded[0]
        better = improved(self._method, weight, rounded, self._moments(*form, node, so_far))
        if not np.array_equal(better, rounded[0]):
            self._changed.append(layer)
        return better

    @property
    def step(self) -> Step:
        """What was done, for a person to read."""
        left = f"; rounded to the nearest code, because outputs cannot be seen: {', '.join(self._left)}" if self._left else ""
        words = f"{self._method} on {len(self._samples)} samples: other codes in {len(self._changed)} layers{left}."
        return Step("Rounding", words[:1].upper() + words[1:])

    def _moments(self, form: Node, arguments: Arguments, node: NodeProto, so_far: ModelProto) -> Moments:
        """What the layer reads in the model quantized so far, and what it gives, without its bias, in the float one."""
        inputs = targets = torch.zeros(())
        energy = 0.0
        for wanted, read in zip(self._read_by(node, self._prepared), self._read_by(node, so_far), strict=True):
            part = moments(form, (read, *arguments), run(form, (wanted, *arguments)))
            share = len(read) / len(self._samples)
            inputs, targets = inputs + share * part.inputs, targets + share * part.targets
            energy += share * part.energy
        return Moments(inputs, targets, energy)

    def _read_by(self, node: NodeProto, model: ModelProto) -> Iterator[torch.Tensor]:
        """The input of a layer, batch by batch, padded as the layer asks for."""
        name = node.input[0]
        session = OnnxSession(computing(model, name).SerializeToString())
        size = _BATCH if session.signature.batched else 1
        for start in range(0, len(self._samples), size):
            feeds = session.prepare(self._samples[start : start + size])
            values = feeds[name] if name in feeds else session.tensors([name], feeds)[0]
            yield functional.pad(torch.from_numpy(np.array(values, np.float32)), _padding(node))


def _torch_form(node: NodeProto, weight: Floats) -> tuple[Node, Arguments] | None:
    """The same operation in torch, with its arguments after the input, padding apart; None for one whose form is another."""
    kernel = torch.from_numpy(weight)
    if node.op_type == "Conv":
        if weight.ndim != 4 or attribute(node, "auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
            return None
        strides, dilations = attribute(node, "strides", [1, 1]), attribute(node, "dilations", [1, 1])
        rest: tuple[Any, ...] = (None, strides, [0, 0], dilations, attribute(node, "group", 1))
        return TorchGraph().call_function(aten.conv2d.default), (kernel, *rest)
    if attribute(node, "transA", 0) or attribute(node, "alpha", 1.0) != 1.0:
        return None
    return TorchGraph().call_function(aten.linear.default), (kernel,)


def _padding(node: NodeProto) -> list[int]:
    """Left, right, top and bottom, as torch counts: from the last axis."""
    top, left, bottom, right = attribute(node, "pads", [0, 0, 0, 0]) if node.op_type == "Conv" else [0, 0, 0, 0]
    return [left, right, top, bottom]
