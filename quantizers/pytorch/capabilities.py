"""The techniques of PyTorch, possible or not, float baseline first."""

from __future__ import annotations

from functools import partial

from quantizers.capability import Capability, Option, cell
from quantizers.schema import Backend, Execution

_LOWERED = Option("lowered", (True, False), "Fuse and prepack for this CPU before running (false: eager PyTorch)")
_PER_CHANNEL = Option("per_channel", (True, False), "One scale per output channel, or one per tensor")
_OBSERVER = Option(
    "observer",
    ("histogram", "minmax", "moving_average", "percentile"),
    "How calibration turns activations into a range (histogram: the one of least squared error)",
)
_ACTIVATIONS = Option("activations", ("affine", "symmetric"), "Whether the zero point of activations is free or in the middle")
_WEIGHT_RANGE = Option(
    "weight_range", ("mse", "minmax"), "Range of a channel's or group's weights: that of least squared error, or all of it"
)

_cell = partial(cell, Backend.PYTORCH)
TECHNIQUES: tuple[Capability, ...] = (
    _cell("float32", _LOWERED),
    _cell("dynamic_wi8", _PER_CHANNEL),
    _cell("static_wi8_ai8", _PER_CHANNEL, _OBSERVER, _ACTIVATIONS),
    _cell("static_wi8_ai16", _PER_CHANNEL, _OBSERVER, execution=Execution.SIMULATED),
    _cell("static_wi4_ai8", _WEIGHT_RANGE, _OBSERVER, _ACTIVATIONS, execution=Execution.SIMULATED),
    _cell("weight_only_wi8", _PER_CHANNEL, execution=Execution.SIMULATED),
    _cell("weight_only_wi4", _WEIGHT_RANGE, execution=Execution.SIMULATED),
    _cell("weight_only_wi4_g32", _WEIGHT_RANGE, execution=Execution.SIMULATED),
    _cell("weight_only_wi4_g128", _WEIGHT_RANGE, execution=Execution.SIMULATED),
    _cell("weight_only_wi2", _WEIGHT_RANGE, execution=Execution.SIMULATED),
    _cell("weight_only_wi2_g32", _WEIGHT_RANGE, execution=Execution.SIMULATED),
    _cell("binary", execution=Execution.SIMULATED),
    _cell("ternary", execution=Execution.SIMULATED),
    _cell("float16", _LOWERED),
    _cell("bfloat16", _LOWERED),
    _cell("hybrid_wf16_ai8", _OBSERVER, _ACTIVATIONS, execution=Execution.SIMULATED),
)
MIXED: Capability | None = Capability(
    Backend.PYTORCH,
    "mixed",
    "Mixed precision",
    Execution.SIMULATED,
    (_PER_CHANNEL, _WEIGHT_RANGE, _OBSERVER, _ACTIVATIONS),
)
"""Mixed precision, whose codes are free text and therefore in no row of the table; None where it is not offered."""
