"""The techniques of PyTorch, possible or not, float baseline first."""

from __future__ import annotations

from functools import partial

from quantizers.capability import Capability, Option, cell
from quantizers.schema import Backend, Execution

_LOWERED = Option("lowered", (True, False), "Fuse and prepack for this CPU before running (false: eager PyTorch)")
_PER_CHANNEL = Option("per_channel", (True, False), "One scale per output channel, or one per tensor")
_OBSERVER = Option(
    "observer",
    ("histogram", "minmax", "moving_average", "percentile", "mse"),
    "How calibration turns activations into a range (histogram and mse: one of least squared error)",
)
_ACTIVATIONS = Option("activations", ("affine", "symmetric"), "Whether the zero point of activations is free or in the middle")
_RANGES = "Range of a channel's or group's weights: all of it, that of least squared error, or half-quadratic (HQQ)"
_WHOLE_RANGE = Option("weight_range", ("minmax", "mse", "hqq"), _RANGES)
_BEST_RANGE = Option("weight_range", ("mse", "minmax", "hqq"), _RANGES)
_SCHEME = Option("scheme", ("symmetric", "affine"), "Weights' codes around zero, or spread over their range with a zero point")
_SCHEME_2 = Option("scheme", ("affine", "symmetric"), _SCHEME.help)
_REDUCE_RANGE = Option("reduce_range", (False, True), "7-bit weights, for processors without VNNI, whose 8-bit sums saturate")
_EQUALIZE = Option("equalize", (False, True), "Cross-layer equalization: even out the ranges of channels before rounding")
_ROUNDING = Option(
    "rounding",
    ("nearest", "learned", "compensated"),
    "To the nearest code, learned layer by layer (AdaRound), or each error compensated by later weights (GPTQ)",
)
_BIAS = Option("bias_correction", (False, True), "Shift biases so that every channel keeps the mean it has in float")
_IMPROVE = (_EQUALIZE, _ROUNDING, _BIAS)
_EPOCHS = Option("epochs", (2, 1, 3, 5, 10), "Passes over the training samples, in each of the two arms")
_RATE = Option("learning_rate", (3e-4, 1e-3, 1e-4), "Of AdamW at the start; it falls to zero along a cosine")

_cell = partial(cell, Backend.PYTORCH)
_simulated = partial(_cell, execution=Execution.SIMULATED)
_GROUPS = (32, 64, 128)
TECHNIQUES: tuple[Capability, ...] = (
    _cell("float32", _LOWERED),
    _cell("dynamic_wi8", _PER_CHANNEL, _WHOLE_RANGE, _REDUCE_RANGE, _EQUALIZE),
    _cell("static_wi8_ai8", _PER_CHANNEL, _WHOLE_RANGE, _OBSERVER, _ACTIVATIONS, _REDUCE_RANGE, *_IMPROVE),
    _simulated("static_wi8_ai16", _PER_CHANNEL, _WHOLE_RANGE, _OBSERVER, *_IMPROVE),
    _simulated("static_wi4_ai8", _BEST_RANGE, _SCHEME, _OBSERVER, _ACTIVATIONS, *_IMPROVE),
    _simulated("weight_only_wi8", _PER_CHANNEL, _WHOLE_RANGE, _EQUALIZE),
    *(_simulated(f"weight_only_wi8_g{size}", _WHOLE_RANGE, _SCHEME, _EQUALIZE) for size in _GROUPS),
    _simulated("weight_only_wi4", _BEST_RANGE, _SCHEME, _EQUALIZE),
    *(_simulated(f"weight_only_wi4_g{size}", _BEST_RANGE, _SCHEME, _EQUALIZE) for size in _GROUPS),
    _simulated("weight_only_wi2", _BEST_RANGE, _SCHEME_2, _EQUALIZE),
    *(_simulated(f"weight_only_wi2_g{size}", _BEST_RANGE, _SCHEME_2, _EQUALIZE) for size in _GROUPS),
    _simulated("binary"),
    _simulated("ternary"),
    _cell("float16", _LOWERED),
    _cell("bfloat16", _LOWERED),
    _simulated("hybrid_wf16_ai8", _OBSERVER, _ACTIVATIONS),
    _cell("qat_wi8_ai8", _EPOCHS, _RATE, _ACTIVATIONS),
    _simulated("qat_wi4_ai8", _EPOCHS, _RATE, _ACTIVATIONS),
)
MIXED: Capability | None = Capability(
    Backend.PYTORCH,
    "mixed",
    "Mixed precision",
    Execution.SIMULATED,
    (_PER_CHANNEL, _BEST_RANGE, _OBSERVER, _ACTIVATIONS, _REDUCE_RANGE, *_IMPROVE),
)
"""Mixed precision, whose codes are free text and therefore in no row of the table; None where it is not offered."""
