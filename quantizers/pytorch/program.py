"""Programs in and out of files: exporting a module, saving a program as `.pt2`, loading one of our own."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import torch
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e

from quantizers.pytorch.annotate import LayerQuantizer
from quantizers.pytorch.describe import Weights
from quantizers.pytorch.graph import array, layer_name, layers
from quantizers.schema import Mode, Technique

_TRACES = ("stack_trace", "from_node", "torch_fn")
"""Node metadata that says where a program was traced: paths of this machine, and half of a small file."""


def export(module: torch.nn.Module, sample: torch.Tensor, *, strict: bool = False) -> ExportedProgram:
    """The module as a graph of aten operations, for any batch size."""
    with torch.no_grad():
        return torch.export.export(module, (sample,), dynamic_shapes=({0: Dim("batch", min=1)},), strict=strict)


def fold(exported: ExportedProgram) -> GraphModule:
    """The program with every batch norm folded into the layer before it, which torchao does before it inserts observers."""
    return strip(prepare_pt2e(exported.module(), LayerQuantizer(Technique(Mode.FLOAT32))))


def duplicate(program: GraphModule) -> GraphModule:
    """A deep copy."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch pickles a graph's signature with a class that it has deprecated
        return copy.deepcopy(program)


def float_weights(program: GraphModule) -> Weights:
    """Weights by layer name, of the layers whose weight is a parameter; observers may stand between the two."""
    found = {}
    for layer in layers(program.graph):
        weight: Any = layer.args[1]
        while isinstance(weight, Node) and weight.op == "call_module":
            weight = weight.args[0]
        if isinstance(weight, Node) and weight.op == "get_attr":
            found[layer_name(layer)] = array(program, weight)
    return found


def save(program: GraphModule, sample: torch.Tensor, path: Path) -> None:
    exported = export(program, sample)
    for node in exported.graph.nodes:
        for key in _TRACES:
            node.meta.pop(key, None)
    exported.example_inputs = None  # a batch of images beside the weights, which only documents the signature
    torch.export.save(exported, path)


def strip(program: GraphModule) -> GraphModule:
    """Deletes parameters that no operation reads: conversion leaves the float weights beside the integer ones."""
    used = {node.target for node in program.graph.nodes if node.op == "get_attr"}
    tensors = [*program.named_parameters(remove_duplicate=False), *program.named_buffers(remove_duplicate=False)]
    for name, _ in tensors:
        if name not in used:
            owner, _, attribute = name.rpartition(".")
            delattr(program.get_submodule(owner), attribute)
    program.delete_all_unused_submodules()
    return program


def load_program(path: Path) -> GraphModule:
    """A `.pt2` of our own. Loading one can execute code: never call this on a file that came from elsewhere."""
    return torch.export.load(path).module(check_guards=False)
