"""Brings an exported program to the operations that the rest of this package knows (canonicalization).

Traced TorchScript holds the general convolution, and programs that were decomposed before they were saved hold core aten: a
layer that goes by another name would stay in float without a word.
"""

from __future__ import annotations

import operator
from typing import Any

from torch.export import ExportedProgram
from torch.fx import GraphModule, Node

from quantizers.pytorch.graph import aten

_CONVOLUTIONS = {3: aten.conv1d.default, 4: aten.conv2d.default, 5: aten.conv3d.default}
_TRANSPOSES = (aten.permute.default, aten.t.default, aten.transpose.int)
_FIRST_OF_SEVERAL = {
    aten._native_batch_norm_legit_no_training.default: aten.batch_norm.default,
    aten.max_pool2d_with_indices.default: aten.max_pool2d.default,
}


def canonical(exported: ExportedProgram) -> ExportedProgram:
    """The same program, changed in place. Nodes keep their names, by which a program knows its outputs."""
    for node in exported.graph.nodes:
        if node.target is aten.convolution.default:
            _convolution(node)
        elif node.target in (aten.addmm.default, aten.mm.default):
            _dense(node)
        elif node.target is operator.getitem and node.args[0].target in _FIRST_OF_SEVERAL and node.args[1] == 0:
            _single(node)
    exported.graph.eliminate_dead_code()
    exported.graph_module.recompile()
    return exported


def reshape_views(program: GraphModule) -> None:
    """Changes `program` in place: `view` fails on another layout in memory than the example had, `reshape` does not."""
    for node in program.graph.nodes:
        if node.target is aten.view.default:
            node.target = aten.reshape.default
    program.recompile()


def _convolution(node: Node) -> None:
    source, weight, bias, stride, padding, dilation, transposed, _, groups = node.args
    assert isinstance(weight, Node)
    if not transposed and weight.meta["val"].ndim in _CONVOLUTIONS:
        node.target = _CONVOLUTIONS[weight.meta["val"].ndim]
        node.args = (source, weight, bias, stride, padding, dilation, groups)


def _dense(node: Node) -> None:
    """bias + x·wᵀ, where wᵀ is a matrix turned over: that of a layer."""
    *bias, source, turned = node.args
    if node.kwargs or not isinstance(turned, Node) or turned.target not in _TRANSPOSES or turned.meta["val"].ndim != 2:
        return
    weight = turned.args[0]
    node.target, node.args = aten.linear.default, (source, weight, *bias)


def _single(node: Node) -> None:
    """Takes the place of an operation with several results, of which it reads the first."""
    several: Any = node.args[0]
    arguments = tuple(several.args)
    if several.target is aten._native_batch_norm_legit_no_training.default:
        *tensors, momentum, epsilon = arguments
        arguments = (*tensors, False, momentum, epsilon, False)
    node.target, node.args = _FIRST_OF_SEVERAL[several.target], arguments
