"""What a cell of the capability matrix says; each backend fills its own row in `quantizers/<backend>/capabilities.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from quantizers.schema import Backend, Execution, OptionValue


@dataclass(frozen=True, slots=True)
class Option:
    """A choice a technique offers. The first of `choices` is the default."""

    name: str
    choices: tuple[OptionValue, ...]
    help: str

    @property
    def default(self) -> OptionValue:
        return self.choices[0]


@dataclass(frozen=True, slots=True)
class Capability:
    """One cell of the matrix. `why_not` is set exactly when the technique is impossible on this backend.

    `keep_float_why_not` is set when it cannot leave single layers in float.
    """

    backend: Backend
    code: str
    title: str
    execution: Execution | None = Execution.NATIVE
    options: tuple[Option, ...] = ()
    why_not: str | None = None
    keep_float_why_not: str | None = None

    @property
    def available(self) -> bool:
        return self.why_not is None


BACKEND_TITLES: Mapping[Backend, str] = {
    Backend.PYTORCH: "PyTorch",
    Backend.TFLITE: "TFLite",
    Backend.ONNXRUNTIME: "ONNX Runtime",
}

TECHNIQUE_TITLES: Mapping[str, str] = {
    "float32": "Float baseline",
    "dynamic_wi8": "Dynamic range, 8-bit weights",
    "dynamic_wi4": "Dynamic range, 4-bit weights",
    "dynamic_wi4_g32": "Dynamic range, 4-bit weights, groups of 32",
    "static_wi8_ai8": "Full integer, 8 bits, calibrated",
    "static_wi4_ai8": "4-bit weights, 8-bit activations, calibrated",
    "static_wi8_ai16": "16×8: 16-bit activations, 8-bit weights",
    "float16": "Float16 weights",
    "bfloat16": "Bfloat16",
    "weight_only_wi8": "Weight only, 8 bits",
    "weight_only_wi8_g32": "Weight only, 8 bits, groups of 32",
    "weight_only_wi8_g64": "Weight only, 8 bits, groups of 64",
    "weight_only_wi8_g128": "Weight only, 8 bits, groups of 128",
    "weight_only_wi4": "Weight only, 4 bits",
    "weight_only_wi4_g32": "Weight only, 4 bits, groups of 32",
    "weight_only_wi4_g64": "Weight only, 4 bits, groups of 64",
    "weight_only_wi4_g128": "Weight only, 4 bits, groups of 128",
    "weight_only_wi2": "Weight only, 2 bits",
    "weight_only_wi2_g32": "Weight only, 2 bits, groups of 32",
    "weight_only_wi2_g64": "Weight only, 2 bits, groups of 64",
    "weight_only_wi2_g128": "Weight only, 2 bits, groups of 128",
    "binary": "Binary weights, ±α",
    "ternary": "Ternary weights, 0 and ±α",
    "hybrid_wf16_ai8": "Hybrid: float16 weights, 8-bit activations",
    "qat_wi8_ai8": "Quantization-aware training, 8 bits",
    "qat_wi4_ai8": "Quantization-aware training, 4-bit weights, 8-bit activations",
}


def cell(
    backend: Backend,
    code: str,
    *options: Option,
    execution: Execution = Execution.NATIVE,
    why_not: str | None = None,
    keep_float_why_not: str | None = None,
) -> Capability:
    """The cell of a technique of the table; a reason why it is impossible leaves it without an execution."""
    title = TECHNIQUE_TITLES[code]
    return Capability(backend, code, title, None if why_not else execution, options, why_not, keep_float_why_not)
