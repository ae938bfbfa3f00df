"""The techniques of TFLite, possible or not, float baseline first."""

from __future__ import annotations

from functools import partial

from quantizers.capability import Capability, Option, cell
from quantizers.schema import Backend, Execution

_PER_CHANNEL = Option("per_channel", (True, False), "One scale per output channel, or one per tensor")
_IO = Option("io", ("int8", "uint8", "float32"), "Type of the model's input and output")
_FALLBACK = Option("float_fallback", (True, False), "Leave operations without an integer kernel in float, or refuse the model")
_CALIBRATOR = Option(
    "calibrator",
    ("minmax", "moving_average"),
    "Range of activations: that of all samples, or litert-quantizer's moving average of each sample's",
)
_RANGE = Option(
    "weight_range", ("minmax", "octav"), "Range of a channel's weights: all of it, or that of least squared error (OCTAV)"
)
_EPOCHS = Option("epochs", (2, 1, 3, 5, 10), "Passes over the training samples, in each of the two arms")
_RATE = Option("learning_rate", (3e-4, 1e-3, 1e-4, 3e-5), "Of Adam at the start; it falls to zero along a cosine")
_NO_BLOCKS = "litert-quantizer has scales for blocks of weights in dynamic-range dense layers alone: dynamic_wi4_g32."
_TRAINED = "Training imitates a whole integer model; a float layer in the middle of it is not imitated."

_cell = partial(cell, Backend.TFLITE)
TECHNIQUES: tuple[Capability, ...] = (
    _cell("float32"),
    _cell("dynamic_wi8"),
    _cell("static_wi8_ai8", _IO, _PER_CHANNEL, _FALLBACK, _CALIBRATOR, _RANGE),
    _cell("static_wi8_ai16", _CALIBRATOR, _RANGE),
    _cell("dynamic_wi4", _RANGE),
    _cell("dynamic_wi4_g32"),
    _cell("static_wi4_ai8", _CALIBRATOR, _RANGE),
    _cell("weight_only_wi8", _RANGE),
    _cell("weight_only_wi4", _RANGE),
    _cell("float16"),
    _cell("qat_wi8_ai8", _EPOCHS, _RATE, keep_float_why_not=_TRAINED),
    _cell("qat_wi4_ai8", _EPOCHS, _RATE, keep_float_why_not=_TRAINED),
    _cell("binary", execution=Execution.SIMULATED),
    _cell("ternary", execution=Execution.SIMULATED),
    _cell(
        "weight_only_wi2",
        why_not="litert-quantizer takes 2 bits and, without an error, leaves every weight in float.",
    ),
    *(_cell(f"weight_only_wi{bits}_g{size}", why_not=_NO_BLOCKS) for bits in (8, 4, 2) for size in (32, 64, 128)),
    _cell(
        "hybrid_wf16_ai8",
        why_not="TFLite has no kernels that multiply float16 weights by 8-bit activations.",
    ),
    _cell(
        "bfloat16",
        why_not="TFLite has no bfloat16 kernels on the CPU; float16 stores weights at the same size.",
    ),
)
MIXED: Capability | None = Capability(Backend.TFLITE, "mixed", "Mixed precision", Execution.NATIVE, (_CALIBRATOR, _RANGE))
"""Mixed precision, whose codes are free text and therefore in no row of the table; None where it is not offered."""
