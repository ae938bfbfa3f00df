"""From a Q/DQ program to fused int8 kernels of x86 oneDNN, with passes that torch keeps private.

A lowered graph cannot be saved and holds for one batch size, so artefacts stay Q/DQ programs and are lowered where they run.
Everything private is behind `lower`; whatever it raises means "no native execution here", never a failed trial.
"""

from __future__ import annotations

import copy
import operator
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.fx import GraphModule, Node
from torch.fx.graph import CodeGen

from quantizers.numerics import tensor_error
from quantizers.pytorch.graph import aten, constant, decomposed, is_dequantize, is_packed, is_quantize, layer_name, layers
from quantizers.pytorch.program import duplicate
from quantizers.schema import Floats

AGREEMENT_DB = 25.0
"""SQNR of a lowered sample's logits against the Q/DQ program's that is good enough, for the median sample.

Kernels sum in another order, so a rounding that ties may give the neighbouring code. Most networks forget that (40 dB and
more); a deep one may amplify one code to an error as large as quantization's own, in the samples that it meets: of sentences
through MiniLM three quarters agree to 130 dB and more, and single ones to 19 dB.
"""
LEEWAY_DB = 6.0
"""Below `AGREEMENT_DB`, so much less than the Q/DQ program agrees with itself when the last bits of its parameters change is
still good enough. A CPU that computes something else, as int8 without VNNI may when it saturates, is far below that.
"""

_WEIGHTS_ONLY = "Activations stay float32, so PyTorch turns the stored integers back into float32 before it computes."
_PACKED = "PyTorch has no CPU kernel that computes with packed weights: it turns them into float32 before it computes."
_WIDE = "PyTorch has no CPU kernel for 16-bit integer activations: it turns them back into float32 before it computes."
_NO_KERNEL = "PyTorch has no int8 kernel for these layers on this machine: it turns the codes back into float32."
_SCALE = 4
"""Position of the weight's scale among the arguments of every onednn.q* operation."""

_POOL_DEFAULTS: tuple[Any, ...] = (None, [], [0, 0], [1, 1], False)
"""Kernel, stride, padding, dilation and ceil mode of `max_pool2d`, where they are left out."""


@dataclass(frozen=True, eq=False)
class Lowered:
    """`run` takes [N, C, …] of the batch size it was made for; `int8` names the layers it computes in int8."""

    run: Callable[[torch.Tensor], torch.Tensor]
    int8: frozenset[str]


def int8_layers(program: GraphModule, probe: torch.Tensor) -> tuple[frozenset[str], str | None]:
    """Names of the layers that run in int8 on this machine, and why execution is only simulated (None when it is native)."""
    if why := simulation(program):
        return frozenset(), why
    try:
        lowered = lower(program, probe)
        if not lowered.int8:
            return frozenset(), _NO_KERNEL
        with torch.inference_mode():
            expected = program(probe).numpy()
            agreement = _agreement(expected, lowered.run(probe).numpy())
            enough = agreement >= AGREEMENT_DB or agreement >= _agreement(expected, _shaken(program)(probe).numpy()) - LEEWAY_DB
    except Exception as error:  # private passes: any failure means no native execution, and the reason is kept
        return frozenset(), f"PyTorch could not lower this model to int8 kernels: {type(error).__name__}: {error}"
    if not enough:
        return frozenset(), f"The int8 kernels of this CPU agree with the model to {agreement:.0f} dB only; they are not used."
    return lowered.int8, None


def _agreement(expected: Floats, found: Floats) -> float:
    """The median sample's SQNR in dB: infinite where nothing differs, 0 beside NaN or where zero was expected and is not."""
    errors = [tensor_error(*pair) for pair in zip(expected, found, strict=True)]
    return float(np.median([np.inf if error.exact else error.sqnr_db or 0.0 for error in errors]))


def _shaken(program: GraphModule) -> GraphModule:
    """A copy whose float parameters differ in their last bits."""
    shaken, random = duplicate(program), torch.Generator().manual_seed(0)
    for tensor in shaken.state_dict().values():
        if tensor.is_floating_point():
            tensor.mul_(1 + torch.finfo(tensor.dtype).eps * torch.randn(tensor.shape, generator=random))
    return shaken


def simulation(program: GraphModule) -> str | None:
    """Why no kernel can compute with the integers of a quantized program; None when kernels have to be looked for."""
    if any(is_packed(node) for node in program.graph.nodes):
        return _PACKED
    quantizations = [node for node in program.graph.nodes if is_quantize(node)]
    if any(torch.int16 in node.args for node in quantizations):
        return _WIDE
    if not quantizations and any(is_dequantize(node) for node in program.graph.nodes):
        return _WEIGHTS_ONLY
    return None


def lower(program: GraphModule, sample: torch.Tensor) -> Lowered:
    """Fuses and prepacks a copy of `program` for this CPU and the batch size of `sample`; raises whatever torch raises."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's passes warn of deprecated calls that torch itself makes
        from torch._inductor.constant_folding import constant_fold
        from torch._inductor.fx_passes.freezing_patterns import freezing_passes

        graph_module = copy.deepcopy(program)
        scales = _spread_scales(graph_module)
        graph_module = _decompose(graph_module, sample)
        freezing_passes(graph_module, (sample,))
        constant_fold(graph_module)
    _stay_in_integers(graph_module)
    _fuse_float_activations(graph_module)
    _inline_rounding(graph_module)
    graph_module.graph.set_codegen(CodeGen())
    graph_module.graph.eliminate_dead_code()
    graph_module.recompile()
    fused = [
        node
        for node in graph_module.graph.nodes
        if str(node.target).startswith("onednn.q") and "prepack" not in str(node.target)
    ]
    return Lowered(lambda x: graph_module(x)[0], frozenset(scales[str(node.args[_SCALE].target)] for node in fused))


def _spread_scales(program: GraphModule) -> dict[str, str]:
    """Gives every quantized weight one scale per channel, equal ones where it had one, because only that pattern is fused.

    Returns the layers' names by the name of their scale tensor, which survives all passes.
    """
    names = {}
    for layer in layers(program.graph):
        dequantize: Any = layer.args[1]
        if not is_dequantize(dequantize):
            continue
        if dequantize.target is decomposed.dequantize_per_tensor.default:
            dequantize = _per_channel(program, layer, dequantize)
        names[str(dequantize.args[1].target)] = layer_name(layer)
    program.graph.lint()
    program.recompile()
    return names


def _per_channel(program: GraphModule, layer: Node, dequantize: Node) -> Node:
    arguments: Any = dequantize.args
    codes, scale, zero_point, *rest = arguments
    channels = len(constant(program, codes))
    tensors = {"scale": torch.full((channels,), scale), "zero_point": torch.full((channels,), zero_point)}
    with program.graph.inserting_before(dequantize):
        attributes = []
        for kind, tensor in tensors.items():
            program.register_buffer(f"{layer.name}_{kind}", tensor)
            attributes.append(program.graph.get_attr(f"{layer.name}_{kind}"))
        spread = program.graph.call_function(decomposed.dequantize_per_channel.default, (codes, *attributes, 0, *rest))
    spread.meta.update(dequantize.meta)
    layer.replace_input_with(dequantize, spread)
    return spread


def _decompose(program: GraphModule, sample: torch.Tensor) -> GraphModule:
    """Exports for one batch size, in the operations and spellings that the fusion patterns are written in."""
    table = torch.export.default_decompositions()
    for operation in list(table):
        if not torch._export.utils._is_cia_op(operation):
            del table[operation]
    lowered: GraphModule = torch.export.export(program, (sample,)).run_decompositions(table).module(check_guards=False)
    graph = lowered.graph
    for node in list(graph.nodes):
        if node.target is aten.t.default:
            node.target, node.args = aten.permute.default, (node.args[0], [1, 0])
        elif node.target in (aten.view.default, aten._unsafe_view.default):
            node.target = aten.reshape.default
        elif node.target is aten.hardtanh.default and _reads_int8_weight(node.args[0]):
            node.target, node.args = aten.clamp_max.default, (_clamp_min(node), node.args[2])
    graph.lint()
    lowered.recompile()
    return lowered


def _reads_int8_weight(node: Any) -> bool:
    return node.target is aten.convolution.default and is_dequantize(node.args[1])


def _clamp_min(hardtanh: Node) -> Node:
    with hardtanh.graph.inserting_before(hardtanh):
        low = hardtanh.graph.call_function(aten.clamp_min.default, hardtanh.args[:2])
    low.meta.update(hardtanh.meta)
    return low


def _stay_in_integers(program: GraphModule) -> None:
    """Rewrites dequantize → operation → quantize on one grid into the operation on integer codes: the values are the same."""
    for quantize in list(program.graph.nodes):
        if not is_quantize(quantize):
            continue
        operation: Any = quantize.args[0]
        result = operation
        if operation.target is operator.getitem:
            operation = operation.args[0]
        dequantize: Any = operation.args[0] if operation.args else None
        if is_dequantize(dequantize) and dequantize.args[1:] == quantize.args[1:] and len(result.users) == 1:
            with program.graph.inserting_before(quantize):
                integers = _on_codes(operation, dequantize)
            if integers is not None:
                _replace(quantize, integers)


def _on_codes(operation: Node, dequantize: Node) -> Node | None:
    """The operation on the codes under `dequantize`, or None when it has no integer form here."""
    graph, codes, rest = operation.graph, dequantize.args[0], operation.args[1:]
    if operation.target in (aten.reshape.default, aten.permute.default):
        return graph.call_function(operation.target, (codes, *rest))
    if operation.target is aten.constant_pad_nd.default and not any(rest[1:]):
        return graph.call_function(operation.target, (codes, rest[0], dequantize.args[2]))
    if operation.target is aten.max_pool2d_with_indices.default:
        kernel, stride, padding, dilation, ceil = rest + _POOL_DEFAULTS[len(rest) :]
        return graph.call_function(torch.ops.quantized.max_pool2d, (codes, kernel, stride or kernel, padding, dilation, ceil))
    return None


def _fuse_float_activations(program: GraphModule) -> None:
    """Fuses activations into float convolutions as inductor does: without it the baseline of int8 is up to 1.8 times slower."""
    for node in list(program.graph.nodes):
        kind = {aten.relu.default: "relu", aten.hardtanh.default: "hardtanh"}.get(node.target)
        convolution: Any = node.args[0] if kind else None
        if kind and convolution.target is torch.ops.mkldnn._convolution_pointwise.default and len(convolution.users) == 1:
            convolution.args = (*convolution.args[:7], kind, list(node.args[1:]), "")
            _replace(node, convolution)


def _inline_rounding(program: GraphModule) -> None:
    """Spells out quantize and dequantize in native operations: torch runs the two in Python, which takes as long as a layer."""
    graph = program.graph
    for node in list(graph.nodes):
        if node.target not in (decomposed.quantize_per_tensor.default, decomposed.dequantize_per_tensor.default):
            continue
        x, scale, zero_point, low, high, dtype = node.args
        with graph.inserting_before(node):
            if is_quantize(node):
                steps = graph.call_function(aten.round.default, (graph.call_function(aten.mul.Tensor, (x, 1.0 / scale)),))
                shifted = graph.call_function(aten.add.Tensor, (steps, zero_point)) if zero_point else steps
                result = graph.call_function(
                    aten.to.dtype, (graph.call_function(aten.clamp.default, (shifted, low, high)), dtype)
                )
            else:
                codes = graph.call_function(aten.to.dtype, (x, torch.float32))
                shifted = graph.call_function(aten.sub.Tensor, (codes, zero_point)) if zero_point else codes
                result = graph.call_function(aten.mul.Tensor, (shifted, scale))
        _replace(node, result)


def _replace(node: Node, by: Node) -> None:
    node.replace_all_uses_with(by)
    node.graph.erase_node(node)
