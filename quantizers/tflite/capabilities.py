"""The techniques of TFLite, possible or not, float baseline first."""

from __future__ import annotations

from functools import partial

from quantizers.capability import Capability, Option, cell
from quantizers.schema import Backend, Execution

_PER_CHANNEL = Option("per_channel", (True, False), "One scale per output channel, or one per tensor")
_IO = Option("io", ("int8", "uint8", "float32"), "Type of the model's input and output")
_NO_BLOCKS = "litert-quantizer has scales for blocks of weights in dynamic-range dense layers alone."

_WHOLE_MODEL = "TensorFlow's converter takes no list of layers; it quantizes a whole model."

_cell = partial(cell, Backend.TFLITE)
TECHNIQUES: tuple[Capability, ...] = (
    _cell("float32"),
    _cell("dynamic_wi8", keep_float_why_not=_WHOLE_MODEL),
    _cell("static_wi8_ai8", _IO, _PER_CHANNEL, keep_float_why_not=_WHOLE_MODEL),
    _cell("static_wi8_ai16", keep_float_why_not=_WHOLE_MODEL),
    _cell("dynamic_wi4"),
    _cell("static_wi4_ai8"),
    _cell("weight_only_wi8"),
    _cell("weight_only_wi4"),
    _cell("float16", keep_float_why_not=_WHOLE_MODEL),
    _cell("binary", execution=Execution.SIMULATED),
    _cell("ternary", execution=Execution.SIMULATED),
    _cell(
        "weight_only_wi2",
        why_not="litert-quantizer takes 2 bits and, without an error, leaves every weight in float.",
    ),
    _cell("weight_only_wi4_g32", why_not=_NO_BLOCKS),
    _cell("weight_only_wi4_g128", why_not=_NO_BLOCKS),
    _cell("weight_only_wi2_g32", why_not=_NO_BLOCKS),
    _cell(
        "hybrid_wf16_ai8",
        why_not="TFLite has no kernels that multiply float16 weights by 8-bit activations.",
    ),
    _cell(
        "bfloat16",
        why_not="TFLite has no bfloat16 kernels on the CPU; float16 stores weights at the same size.",
    ),
)
MIXED: Capability | None = None
"""Mixed precision, whose codes are free text and therefore in no row of the table; None where it is not offered."""
