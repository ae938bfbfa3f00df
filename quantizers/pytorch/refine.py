"""Making good for rounding after the fact: better codes and corrected biases, layer by layer on calibration samples.

The quantized program and the float one walk through the samples side by side; each layer is improved on what the layers before
it, improved already, hand it. One pass does it all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import GraphModule, Node

from quantizers.adapter import Report
from quantizers.pytorch import rounding
from quantizers.pytorch.graph import DENSE, constant, layer_name
from quantizers.pytorch.rewrite import set_codes
from quantizers.pytorch.walk import Arguments, run, walk
from quantizers.pytorch.weights import Rounded
from quantizers.schema import Options

SAMPLES = 64
"""Calibration samples that are looked at: moments over all their places are enough for hundreds of inputs."""
NEAREST = "nearest"


@dataclass(frozen=True, slots=True)
class Improvements:
    """What to improve: `rounding` is "nearest", "learned" or "compensated"."""

    rounding: str = NEAREST
    bias: bool = False

    @classmethod
    def of(cls, options: Options) -> Improvements:
        return cls(str(options.get("rounding", NEAREST)), bool(options.get("bias_correction", False)))

    def __bool__(self) -> bool:
        return self.rounding != NEAREST or self.bias


def refine(
    program: GraphModule,
    reference: GraphModule,
    samples: torch.Tensor,
    rounded: Mapping[str, Rounded],
    improvements: Improvements,
    report: Report,
) -> None:
    """Changes codes and biases of the quantized `program` in place.

    Args:
        reference: the float program it was made from, with the same layers.
        rounded: the codes it has and their grids, by layer name; other layers keep their weights.
    """
    quantized = walk(program, samples[:SAMPLES])
    with torch.no_grad():
        node, arguments = next(quantized)
        for original, float_arguments in walk(reference, samples[:SAMPLES]):
            report(0.0, f"improving {layer_name(node)}")
            wanted = run(original, float_arguments)
            changed = _improve(program, node, arguments, wanted, float_arguments[1], rounded, improvements)
            try:
                node, arguments = quantized.send(changed)
            except StopIteration:
                return


def _improve(
    program: GraphModule,
    layer: Node,
    arguments: Arguments,
    wanted: torch.Tensor,
    float_weight: torch.Tensor,
    rounded: Mapping[str, Rounded],
    improvements: Improvements,
) -> Arguments:
    x, weight, *rest = arguments
    name = layer_name(layer)
    if improvements.rounding != NEAREST and name in rounded and rounding.measurable(layer):
        bias = rest[0] if rest and rest[0] is not None else None
        seen = rounding.moments(layer, arguments, wanted if bias is None else wanted - _spread(layer, bias))
        with torch.enable_grad():
            codes = rounding.improved(improvements.rounding, float_weight.detach().numpy(), rounded[name], seen)
        set_codes(program, layer, codes)
        source: Any = layer.args[1]
        weight = run(source, tuple(constant(program, one) if isinstance(one, Node) else one for one in source.args))
    if improvements.bias and name in rounded:
        rest = _corrected(program, layer, (x, weight, *rest), wanted)
    return (x, weight, *rest)


def _spread(layer: Node, bias: torch.Tensor) -> torch.Tensor:
    """A bias in a shape that adds to the layer's output."""
    return bias if layer.target in DENSE else bias.reshape(-1, *[1] * (layer.meta["val"].ndim - 2))


def _corrected(program: GraphModule, layer: Node, arguments: Arguments, wanted: torch.Tensor) -> list[Any]:
    """The layer's arguments after the weight, with a bias that gives every output channel the mean it has in float.

    Nagel et al. 2019, arXiv:1906.04721, appendix D: empirical bias correction.
    """
    error = wanted - run(layer, arguments)
    axes = [axis for axis in range(error.ndim) if axis != (error.ndim - 1 if layer.target in DENSE else 1)]
    correction = error.mean(axes)
    rest = list(arguments[2:]) or [None]
    if rest[0] is None:
        name = f"{layer.name}_bias"
        program.register_buffer(name, correction)
        with program.graph.inserting_before(layer):
            layer.args = (*layer.args[:2], program.graph.get_attr(name), *layer.args[3:])
        program.recompile()
        return [correction, *rest[1:]]
    source: Any = layer.args[2]
    stored = constant(program, source)
    stored += correction
    return [stored, *rest[1:]]
