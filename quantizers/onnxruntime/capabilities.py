"""The techniques of ONNX Runtime, possible or not, float baseline first."""

from __future__ import annotations

from functools import partial

from quantizers.capability import Capability, Option, cell
from quantizers.schema import Backend, Execution

_PER_CHANNEL = Option("per_channel", (True, False), "One scale per output channel, or one per tensor")
_CALIBRATOR = Option(
    "calibrator", ("minmax", "percentile", "entropy", "moving_average"), "How calibration turns activations into a range"
)
_TYPES = Option("types", ("u8s8", "s8s8", "u8u8"), "Types of activations and of weights: unsigned or signed 8 bits")
_DYNAMIC_TYPES = Option("types", ("u8s8", "u8u8"), "Types of activations and of weights: unsigned or signed 8 bits")
_FORMAT = Option("format", ("qdq", "qoperator"), "Q/DQ pairs that the runtime fuses, or integer operations in the file")
_REDUCE_RANGE = Option("reduce_range", (False, True), "7-bit weights, for processors without VNNI, whose 8-bit sums saturate")
_OP_TYPES = Option("op_types", ("all", "dense"), "Every layer, or dense layers only: dynamic convolutions are slow")
_STATIC_OP_TYPES = Option(
    "op_types",
    ("all", "dense"),
    "Every operation, or dense layers only, whose results stay in float where the format is qdq: gentler on transformers",
)
_SCHEME = Option("scheme", ("symmetric", "affine"), "Weights' codes around zero, or spread over their range with a zero point")
_SCHEME_2 = Option(
    "scheme", ("affine", "symmetric"), "Weights' codes spread over their range with a zero point, or around zero"
)
_WEIGHT_RANGE = Option(
    "weight_range",
    ("minmax", "mse", "hqq"),
    "Range of a channel's or group's weights: all of it (RTN), that of least squared error, or half-quadratic (HQQ)",
)
_ROUNDING = Option(
    "rounding",
    ("nearest", "compensated", "learned"),
    "To the nearest code, each error compensated by later weights (GPTQ), or learned layer by layer (AdaRound)",
)
_ACTIVATIONS = Option("activations", ("affine", "symmetric"), "Whether the zero point of activations is free or in the middle")
_EPOCHS = Option("epochs", (2, 1, 3, 5, 10), "Passes over the training samples, in each of the two arms")
_RATE = Option("learning_rate", (3e-4, 1e-3, 1e-4, 3e-5), "Of AdamW at the start; it falls to zero along a cosine")

_cell = partial(cell, Backend.ONNXRUNTIME)


def _weight_only(bits: int, scheme: Option) -> list[Capability]:
    """One scale a channel, and one for each 32, 64 or 128 weights of it."""
    groups = ("", "_g32", "_g64", "_g128")
    return [_cell(f"weight_only_wi{bits}{group}", scheme, _WEIGHT_RANGE, _ROUNDING) for group in groups]


TECHNIQUES: tuple[Capability, ...] = (
    _cell("float32"),
    _cell("dynamic_wi8", _OP_TYPES, _PER_CHANNEL, _DYNAMIC_TYPES),
    _cell("dynamic_wi4_g32", _SCHEME, _WEIGHT_RANGE),
    _cell("static_wi8_ai8", _STATIC_OP_TYPES, _FORMAT, _TYPES, _PER_CHANNEL, _REDUCE_RANGE, _CALIBRATOR),
    _cell("static_wi8_ai16", _PER_CHANNEL, _CALIBRATOR),
    _cell("static_wi4_ai8", _PER_CHANNEL, _CALIBRATOR),
    *_weight_only(8, _SCHEME),
    *_weight_only(4, _SCHEME),
    *_weight_only(2, _SCHEME_2),
    _cell("float16"),
    _cell("qat_wi8_ai8", _EPOCHS, _RATE, _ACTIVATIONS),
    _cell("qat_wi4_ai8", _EPOCHS, _RATE, _ACTIVATIONS),
    _cell("binary", execution=Execution.SIMULATED),
    _cell("ternary", execution=Execution.SIMULATED),
    _cell("hybrid_wf16_ai8", _CALIBRATOR, execution=Execution.SIMULATED),
    _cell(
        "bfloat16",
        why_not="ONNX Runtime has no bfloat16 kernels for these layers on the CPU; float16 stores weights at the same size.",
    ),
    _cell(
        "dynamic_wi4",
        why_not="ConvInteger and MatMulInteger, which quantize activations as they run, take 8-bit weights only; "
        "MatMulNBits takes 4 bits in groups: dynamic_wi4_g32.",
    ),
)
MIXED: Capability | None = Capability(
    Backend.ONNXRUNTIME, "mixed", "Mixed precision", Execution.NATIVE, (_PER_CHANNEL, _CALIBRATOR)
)
"""Mixed precision, whose codes are free text and therefore in no row of the table; None where it is not offered."""
