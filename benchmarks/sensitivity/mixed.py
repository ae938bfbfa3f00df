"""Mixed precision by choice of widths, for real: the chosen weights run in the engine, their codes are packed and counted.

Weights are rounded as the PyTorch backend's mixed precision does it; activations stay float32, whereas a run on a backend
calibrates them to 8 bits as well. Bytes are those of the packed codes with their scales, zero points and everything left float.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from benchmarks.engine import Engine
from benchmarks.sensitivity.analyse import RoundedWeights
from benchmarks.sensitivity.output_error import OutputError
from benchmarks.sensitivity.report import Losses
from benchmarks.sensitivity.rounding import RoundedWeight
from quantizers.pytorch.packing import pack

FLOAT_BYTES = 4
Choice = Mapping[str, int]
"""Bits by layer name."""


def packed_bytes(weight: RoundedWeight) -> int:
    """Bytes of the weight as a file holds it: packed codes, one float32 scale a channel, its int8 zero point where not zero."""
    if weight.scale is None or weight.zero_point is None:
        return weight.codes.numel() * weight.codes.element_size()
    grids = weight.scale.numel() * FLOAT_BYTES + (weight.zero_point.numel() if bool(weight.zero_point.any()) else 0)
    return pack(weight.codes.contiguous().numpy(), weight.bits).nbytes + grids


def unquantized_bytes(engine: Engine) -> int:
    """Bytes of all parameters that no width applies to, such as biases."""
    every = sum(parameter.numel() for parameter in engine.graph_module.parameters())
    return FLOAT_BYTES * (every - sum(layer.weight.numel() for layer in engine.layers))


def float_bytes(engine: Engine) -> int:
    return FLOAT_BYTES * sum(parameter.numel() for parameter in engine.graph_module.parameters())


def measure_choice(engine: Engine, reference: Tensor, rounded: RoundedWeights, choice: Choice, labels: Tensor | None) -> Losses:
    """The losses with every layer at its chosen width: one evaluation pass.

    Args:
        reference: the engine's float output.
        labels: of the engine's samples.
    """
    output = engine.run({name: rounded[name, bits].values for name, bits in choice.items()})
    error = OutputError()
    with torch.inference_mode():
        error.add(reference, output, labels)
    return error.losses()
