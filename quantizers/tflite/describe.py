"""What a converted file did to every layer: its operations joined with the model's layer names and float weights.

The file names operations in its own way: Keras appends a number to every layer when it exports ("conv1_1/convolution") and the
converter joins the names of what it fuses ("bn2_1/batchnorm/mul;dw_1/depthwise"). So a layer is recognised by its weights.
Folding a batch norm multiplies each output channel by a number, which leaves the direction of the channel's weights as it was:
the cosine per channel between file and Keras kernel is ±1 for the right layer. Names only decide between equals.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantizers.errors import ConversionFailed
from quantizers.schema import Mode, QuantizedLayer, QuantizedTensor, Role, Technique
from quantizers.tflite import simulate
from quantizers.tflite.reader import Tensor, WeightedOp, read

DYNAMIC_RANGE_MINIMUM = 1024
"""Weights of fewer elements stay float in dynamic-range quantization (the converter's `kDefaultMinElementsForWeights`)."""
_SAME_DIRECTION = 0.9
_TIE = 1e-3
_NO_NARROW_DEPTHWISE = "litert-quantizer has no 4-bit weights for depthwise convolutions."
_NO_BLOCKS = "litert-quantizer has scales for blocks of weights in dense layers alone."
_UNEVEN = "Its {} inputs are no multiple of {}, the length of a block."
Kernels = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Record:
    """A layer, and the number of its output tensor in the interpreter."""

    layer: QuantizedLayer
    output_index: int


def describe(
    file: bytes, float_file: bytes, kernels: Kernels, technique: Technique, keep_float: Collection[str] = ()
) -> Sequence[Record]:
    """The weighted layers of `file` in execution order.

    Args:
        float_file: the plain float32 conversion of the same model: its weights, batch norms folded in, are the references.
        kernels: the model's raw kernels by layer name, in the layout of the file.
        keep_float: layers that were asked to stay in float.

    Raises:
        ConversionFailed: an operation matches no layer of the model, or two match one.
    """
    float_ops, ops = read(float_file), read(file)
    float_names = layer_names(float_ops, kernels)
    # Imitated weights may point elsewhere than the kernels, but stay in the places of the float file.
    names = float_names if simulate.covers(technique) else layer_names(ops, kernels)
    if sorted(names) != sorted(float_names):
        raise ConversionFailed("The converted file holds other layers than the float one.", "The log has the details.")
    references = dict(zip(float_names, float_ops, strict=True))
    asked = technique.bits_by_layer(names) if technique.mode is Mode.MIXED else {}
    return [
        Record(_layer(name, op, references[name], technique, name in keep_float, asked.get(name)), op.output.index)
        for name, op in zip(names, ops, strict=True)
    ]


def outputs(float_file: bytes, kernels: Kernels) -> Mapping[str, str]:
    """The name of the tensor that each layer of the model computes, in the float file."""
    ops = read(float_file)
    return {name: op.output.name for name, op in zip(layer_names(ops, kernels), ops, strict=True)}


def uneven(float_file: bytes, block: int) -> Sequence[str]:
    """The tensors computed by dense operations whose inputs are no multiple of a block."""
    dense = [op for op in read(float_file) if op.kind == "FULLY_CONNECTED" and op.weight.data is not None]
    return [op.output.name for op in dense if op.weight.data is not None and op.weight.data.shape[1] % block]


def _layer(
    name: str, op: WeightedOp, reference: WeightedOp, technique: Technique, kept: bool, asked: int | None
) -> QuantizedLayer:
    weight = _tensor(name, Role.WEIGHT, op.weight, reference.weight)
    if simulate.covers(technique) and not kept:
        codes, params = simulate.grid(op, technique)
        weight = replace(weight, dtype=params.dtype, params=params, codes=codes)
    quantized = weight.dtype != "float32"
    return QuantizedLayer(
        name=name,
        native_name=op.weight.name,
        op=op.kind,
        quantized=quantized,
        why_not=_why_wider(op, asked) if quantized else _why_not(op, technique, kept),
        weight=weight,
        bias=None if op.bias is None else _tensor(name, Role.BIAS, op.bias, reference.bias),
        inputs=(_tensor(name, Role.INPUT, op.input),),
        output=_tensor(name, Role.OUTPUT, op.output),
        runs_in=_runs_in(op),
    )


def _tensor(layer: str, role: Role, tensor: Tensor, reference: Tensor | None = None) -> QuantizedTensor:
    values = None if reference is None else reference.data
    if reference is not None and reference.params(role) is not None:  # A quantized file beside itself: nothing is rounded.
        values = reference.values().astype(np.float32)
    return QuantizedTensor(tensor.name, layer, role, tensor.dtype, tensor.params(role), tensor.data, values)


def _why_not(op: WeightedOp, technique: Technique, kept: bool) -> str:
    if technique.mode is Mode.FLOAT32:
        return "The float baseline quantizes nothing."
    if kept:
        return "Kept in float, as asked."
    if technique.group_size is not None:
        return _NO_BLOCKS if op.kind != "FULLY_CONNECTED" else _UNEVEN.format(op.weight.values().shape[1], technique.group_size)
    if technique.weight == "i4" and op.kind == "DEPTHWISE_CONV_2D":
        return _NO_NARROW_DEPTHWISE
    size = op.weight.values().size
    if technique.mode is Mode.DYNAMIC and technique.weight == "i8" and size < DYNAMIC_RANGE_MINIMUM:
        return f"{size} weights: the converter leaves tensors under {DYNAMIC_RANGE_MINIMUM:,} elements in float."
    return "The converter left this layer in float."


def _why_wider(op: WeightedOp, asked: int | None) -> str | None:
    """Why mixed precision stored the weight in more bits than `asked`; None if it did not."""
    if asked != 4 or op.kind != "DEPTHWISE_CONV_2D":
        return None
    return f"Stored in 8 bits, not 4: {_NO_NARROW_DEPTHWISE}"


def _runs_in(op: WeightedOp) -> str:
    """The type of the multiplication, as the types of its two factors tell: "int8", "int8x4" where the weight is narrower."""
    weight, source = op.weight.dtype, op.input.dtype
    if op.widened or weight == "float32":
        return "float32"
    if source == "float32":
        return f"hybrid {weight}"
    return source if source == weight else f"{source}x{weight.removeprefix('int')}"


def layer_names(ops: Sequence[WeightedOp], kernels: Kernels) -> Sequence[str]:
    """The layer of every operation. Of layers with equal weights, the model's order decides where names do not."""
    left = dict(kernels)
    names = []
    for op in ops:
        names.append(_identify(op, left))
        del left[names[-1]]
    return names


def _identify(op: WeightedOp, kernels: Kernels) -> str:
    """The name of the layer whose weights the operation holds."""
    weight = op.weight.values()
    alike = {name: _alike(weight, kernel, op.channel_axis) for name, kernel in kernels.items() if kernel.shape == weight.shape}
    best = max(alike.values(), default=0.0)
    written = {re.sub(r"_\d+$", "", part) for part in re.split(r"[/;]", op.weight.name)}
    chosen = max(alike, key=lambda name: (alike[name] > best - _TIE, name in written), default="")
    if best < _SAME_DIRECTION and chosen not in written:
        raise ConversionFailed(
            f"The operation “{op.weight.name}” of the converted file holds the weights of no layer that is left."
        )
    return chosen


def _alike(weight: NDArray[Any], kernel: NDArray[np.float32], channel_axis: int) -> float:
    """|cosine| of each output channel, averaged by the energy of the channel; 0 to 1."""
    ours, theirs = (
        np.moveaxis(x, channel_axis, 0).reshape(x.shape[channel_axis], -1).astype(np.float64) for x in (weight, kernel)
    )
    norms, other = np.linalg.norm(ours, axis=1), np.linalg.norm(theirs, axis=1)
    dots = np.abs((ours * theirs).sum(axis=1))
    energy = float((norms**2).sum())
    # |cos|·‖w‖² = |w·k|·‖w‖/‖k‖; a channel of zeros weighs nothing.
    return float((dots * norms / np.where(other > 0, other, 1.0)).sum() / energy) if energy > 0 else 0.0
