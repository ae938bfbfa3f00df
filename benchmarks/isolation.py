"""The error of one layer by itself: its input is that of the float model, and only its own numbers are rounded.

One float pass over the batches gives every layer's isolated error at once. A layer is linear up to its activation function, so
what rounding the weight by δW and the input by δx adds to the sum is the layer applied to them: W∗δx, δW∗x and δW∗δx, three
convolutions more. The float model is the zoo's PyTorch form, whatever backend quantized: weights, scales and zero points are
the backend's own, brought into PyTorch's layout and compared with the float weights, so that no layout is guessed.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.fidelity import ErrorReport, ErrorSums
from models.architecture import INPUT, Architecture, BatchNorm, Flatten, Node, Relu, Relu6
from models.float_model import ZooModel
from models.folding import folded_weights
from quantizers.adapter import Batch
from quantizers.numerics import dequantize
from quantizers.schema import QuantizedLayer, QuantParams

if TYPE_CHECKING:
    from torch import Tensor

WEIGHT_ONLY, ACTIVATION_ONLY, BOTH = "weight_only", "activation_only", "both"
FLOAT_WEIGHT = "the weight is kept in float"
FLOAT_ACTIVATIONS = "activations are kept in float"
RANGE_AT_RUN_TIME = "the range of activations is found as the model runs"
CHANGED_WEIGHT = "quantizing changed the float weight itself, so that its rounding cannot be told apart"
_SAME = 1e-3
"""Greatest difference, as a share of the greatest weight, between a float weight as two libraries fold batch norm into it."""


@dataclass(frozen=True, kw_only=True)
class IsolatedReport:
    """Errors of a layer's output, each against float; one that does not exist is None, with the reason beside it.

    weight_only: the weight on its grid. activation_only: input and output on theirs. both: all three.
    """

    weight_only: ErrorReport | None
    weight_only_why_not: str | None
    activation_only: ErrorReport | None
    activation_only_why_not: str | None
    both: ErrorReport | None
    both_why_not: str | None


class IsolatedErrors:
    """Collects the isolated errors of every layer of a quantized zoo model, batch by batch; keeps no activation."""

    def __init__(self, model: ZooModel, layers: Sequence[QuantizedLayer]) -> None:
        self._module = _channels_last(model.torch_module())
        self._nodes = model.architecture.nodes
        self._readers = {name: sum(name in node.inputs for node in self._nodes) for name in model.architecture.shapes}
        weights = folded_weights(model)
        self._parts = {layer.name: _Part(model, self._module, layer, weights[layer.name]) for layer in layers}
        # What follows a layer up to its activation function is part of it, as backends fuse it.
        self._ends = {_last(model.architecture, name): name for name in self._parts}

    def add(self, batch: Batch) -> None:
        """Takes in one preprocessed batch [N, H, W, C].

        Raises:
            QuantizationError: a value is NaN or infinite.
        """
        import torch

        # A batch with its channels last is, seen by PyTorch, one of [N, C, H, W] in the layout its kernels are fastest in.
        values: dict[str, Any] = {INPUT: torch.from_numpy(np.moveaxis(np.ascontiguousarray(batch, np.float32), -1, 1))}
        readers = dict(self._readers)
        inputs: dict[str, Any] = {}
        with torch.inference_mode(), _without_denormals():
            for node in self._nodes:
                sources = [values[name] for name in node.inputs]
                values[node.name] = getattr(self._module, node.name)(*sources)
                if node.name in self._parts:
                    inputs[node.name] = sources[0]
                if node.name in self._ends:
                    layer = self._ends[node.name]
                    before = sources[0] if isinstance(node, Relu | Relu6) else values[node.name]
                    self._parts[layer].add(inputs.pop(layer), before, values[node.name])
                for name in node.inputs:
                    readers[name] -= 1
                    if not readers[name]:
                        del values[name]

    def reports(self) -> Mapping[str, IsolatedReport]:
        """By layer name, after at least one batch."""
        return {name: part.report() for name, part in self._parts.items()}


class _Part:
    """One layer: its rounding errors as modules that apply them, and the sums of what they do."""

    def __init__(self, model: ZooModel, module: Any, layer: QuantizedLayer, weight: NDArray[np.float32]) -> None:
        self._name = layer.name
        self._input = layer.inputs[0].params if layer.inputs else None
        self._output = layer.output.params if layer.output else None
        self._activation = getattr(module, _last(model.architecture, layer.name)) if _activated(model, layer.name) else _same
        self._why_not = self._reasons(layer)
        error = None if self._why_not[WEIGHT_ONLY] else _rounding(model, layer, weight)
        if error is None and self._why_not[WEIGHT_ONLY] is None:
            self._why_not |= dict.fromkeys((WEIGHT_ONLY, BOTH), CHANGED_WEIGHT)
        self._weight = _with_weight(getattr(module, layer.name), weight)
        self._weight_error = None if error is None else _with_weight(getattr(module, layer.name), error)
        self._sums = {kind: ErrorSums() for kind, reason in self._why_not.items() if reason is None}

    def _reasons(self, layer: QuantizedLayer) -> dict[str, str | None]:
        """Why an error does not exist, by kind."""
        rounded = [tensor for tensor in (*layer.inputs, layer.output) if tensor is not None and tensor.params is not None]
        at_run_time = any("dynamic" in tensor.dtype for tensor in layer.inputs)
        activations = RANGE_AT_RUN_TIME if at_run_time else None if rounded else FLOAT_ACTIVATIONS
        weights = None if layer.quantized else FLOAT_WEIGHT
        return {WEIGHT_ONLY: weights, ACTIVATION_ONLY: activations, BOTH: weights or activations}

    def add(self, x: Tensor, before: Tensor, after: Tensor) -> None:
        """Takes in one batch: the layer's input, its sum before the activation function, and its float output."""
        for kind, output in self._outputs(x, before):
            self._sums[kind].add(after.numpy(), output.numpy(), f"The isolated output of {self._name}")

    def _outputs(self, x: Tensor, before: Tensor) -> Iterator[tuple[str, Tensor]]:
        # Each step works in place: memory for activations that is taken anew costs more than what is computed in it.
        if WEIGHT_ONLY in self._sums:
            assert self._weight_error is not None
            by_weight = self._weight_error(x)
            yield WEIGHT_ONLY, self._activation(before + by_weight)
        if ACTIVATION_ONLY in self._sums:
            rounding = _on_grid(x, self._input).sub_(x)
            summed = self._weight(rounding).add_(before)
            yield ACTIVATION_ONLY, _on_grid(self._activation(summed), self._output)
        if BOTH in self._sums:
            assert self._weight_error is not None
            summed.add_(by_weight).add_(self._weight_error(rounding))
            yield BOTH, _on_grid(self._activation(summed), self._output)

    def report(self) -> IsolatedReport:
        figures = {kind: self._sums[kind].figures() if kind in self._sums else None for kind in self._why_not}
        return IsolatedReport(
            weight_only=figures[WEIGHT_ONLY],
            weight_only_why_not=self._why_not[WEIGHT_ONLY],
            activation_only=figures[ACTIVATION_ONLY],
            activation_only_why_not=self._why_not[ACTIVATION_ONLY],
            both=figures[BOTH],
            both_why_not=self._why_not[BOTH],
        )


def _same(x: Tensor) -> Tensor:
    return x


def _next(architecture: Architecture, name: str) -> Node | None:
    """The one node that reads `name`; None where several do, or none."""
    readers = [node for node in architecture.nodes if name in node.inputs]
    return readers[0] if len(readers) == 1 else None


def _last(architecture: Architecture, layer: str) -> str:
    """The last node of what backends fuse: the layer, its batch norm, its activation function."""
    last = layer
    for kinds in (BatchNorm, Relu | Relu6):
        following = _next(architecture, last)
        if isinstance(following, kinds):
            last = following.name
    return last


def _activated(model: ZooModel, layer: str) -> bool:
    return isinstance(model.architecture.node(_last(model.architecture, layer)), Relu | Relu6)


def _rounding(model: ZooModel, layer: QuantizedLayer, weight: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Quantized less float weight in PyTorch's layout; None where the float weight is not the model's."""
    codes, reference, params = layer.weight.codes, layer.weight.reference, layer.weight.params
    assert codes is not None
    assert reference is not None
    restored = codes.astype(np.float64) if params is None else dequantize(codes, params)
    for arrange in _arrangements(model, layer.name, weight.shape):
        try:
            found = arrange(reference)
        except ValueError:
            continue
        if found.shape == weight.shape and np.abs(found - weight).max() <= _SAME * np.abs(weight).max():
            return np.ascontiguousarray(arrange(restored - reference), np.float32)
    return None


def _arrangements(model: ZooModel, layer: str, shape: tuple[int, ...]) -> Iterator[Callable[[NDArray[Any]], NDArray[Any]]]:
    """The ways in which backends lay out a weight of PyTorch's `shape`, each as the way back."""
    yield lambda w: w
    if len(shape) == 4:
        yield lambda w: w.transpose(0, 3, 1, 2)
        yield lambda w: w.transpose(3, 0, 1, 2)
        return
    yield lambda w: w.T
    node = model.architecture.node(layer)
    assert node is not None
    flattened = model.architecture.node(node.inputs[0])
    if isinstance(flattened, Flatten):
        image = model.architecture.shapes[flattened.inputs[0]]
        if len(image) == 3 and math.prod(image) == shape[1]:
            yield lambda w: w.reshape(-1, *image).transpose(0, 3, 1, 2).reshape(shape)


def _with_weight(module: Any, weight: NDArray[np.float32]) -> Any:
    """The layer with another weight and without its bias."""
    import torch

    twin = copy.deepcopy(module)
    twin.weight = torch.nn.Parameter(torch.from_numpy(np.ascontiguousarray(weight)), requires_grad=False)
    twin.bias = None
    return _channels_last(twin)


def _channels_last(module: Any) -> Any:
    import torch

    return module.to(memory_format=torch.channels_last)


@contextmanager
def _without_denormals() -> Iterator[None]:
    """Rounding errors come so close to zero that processors compute them a hundred times slower; to the sums they are zero."""
    import torch

    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def _on_grid(x: Tensor, params: QuantParams | None) -> Tensor:
    """A copy of `x`, rounded to a per-tensor grid if there is one."""
    import torch

    if params is None:
        return x.clone()
    scale, zero = float(params.scale[0]), int(params.zero_point[0])
    return torch.fake_quantize_per_tensor_affine(x, scale, zero, params.qmin, params.qmax)
