"""What is possible, as data: backend × technique → options, or the reason why not. Pages, CLI and worker ask this one table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from quantizers.errors import UnknownName, Unsupported
from quantizers.schema import Backend, Execution, Mode, Options, OptionValue, Technique


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
    "static_wi8_ai8": "Full integer, 8 bits, calibrated",
    "static_wi4_ai8": "4-bit weights, 8-bit activations, calibrated",
    "static_wi8_ai16": "16×8: 16-bit activations, 8-bit weights",
    "float16": "Float16 weights",
    "bfloat16": "Bfloat16",
    "weight_only_wi8": "Weight only, 8 bits",
    "weight_only_wi8_g32": "Weight only, 8 bits, groups of 32",
    "weight_only_wi4": "Weight only, 4 bits",
    "weight_only_wi4_g32": "Weight only, 4 bits, groups of 32",
    "weight_only_wi4_g128": "Weight only, 4 bits, groups of 128",
    "weight_only_wi2": "Weight only, 2 bits",
    "weight_only_wi2_g32": "Weight only, 2 bits, groups of 32",
    "binary": "Binary weights, ±α",
    "ternary": "Ternary weights, 0 and ±α",
    "hybrid_wf16_ai8": "Hybrid: float16 weights, 8-bit activations",
}

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
_IO = Option("io", ("int8", "uint8", "float32"), "Type of the model's input and output")
_NO_BLOCKS = "litert-quantizer has scales for blocks of weights in dynamic-range dense layers alone."

_CALIBRATOR = Option(
    "calibrator", ("minmax", "percentile", "entropy", "moving_average"), "How calibration turns activations into a range"
)
_TYPES = Option("types", ("u8s8", "s8s8", "u8u8"), "Types of activations and of weights: unsigned or signed 8 bits")
_DYNAMIC_TYPES = Option("types", ("u8s8", "u8u8"), "Types of activations and of weights: unsigned or signed 8 bits")
_FORMAT = Option("format", ("qdq", "qoperator"), "Q/DQ pairs that the runtime fuses, or integer operations in the file")
_REDUCE_RANGE = Option("reduce_range", (False, True), "7-bit weights, for processors without VNNI, whose 8-bit sums saturate")
_OP_TYPES = Option("op_types", ("all", "dense"), "Every layer, or dense layers only: dynamic convolutions are slow")
_SCHEME = Option("scheme", ("symmetric", "affine"), "Weights' codes around zero, or spread over their range with a zero point")
_SCHEME_2 = Option(
    "scheme", ("affine", "symmetric"), "Weights' codes spread over their range with a zero point, or around zero"
)


def _cell(
    backend: Backend,
    code: str,
    *options: Option,
    execution: Execution = Execution.NATIVE,
    why_not: str | None = None,
    keep_float_why_not: str | None = None,
) -> Capability:
    title = TECHNIQUE_TITLES[code]
    return Capability(backend, code, title, None if why_not else execution, options, why_not, keep_float_why_not)


_WHOLE_MODEL = "TensorFlow's converter takes no list of layers; it quantizes a whole model."
_TABLE: tuple[Capability, ...] = (
    _cell(Backend.PYTORCH, "float32", _LOWERED),
    _cell(Backend.PYTORCH, "dynamic_wi8", _PER_CHANNEL),
    _cell(Backend.PYTORCH, "static_wi8_ai8", _PER_CHANNEL, _OBSERVER, _ACTIVATIONS),
    _cell(Backend.PYTORCH, "static_wi8_ai16", _PER_CHANNEL, _OBSERVER, execution=Execution.SIMULATED),
    _cell(Backend.PYTORCH, "static_wi4_ai8", _WEIGHT_RANGE, _OBSERVER, _ACTIVATIONS, execution=Execution.SIMULATED),
    _cell(Backend.PYTORCH, "weight_only_wi8", _PER_CHANNEL, execution=Execution.SIMULATED),
    _cell(Backend.PYTORCH, "weight_only_wi4", _WEIGHT_RANGE, execution=Execution.SIMULATED),
    _cell(Backend.PYTORCH, "weight_only_wi4_g32", _WEIGHT_RANGE, execution=Execution.SIMULATED),
    _cell(Backend.PYTORCH, "weight_only_wi4_g128", _WEIGHT_RANGE, execution=Execution.SIMULATED),
    _cell(Backend.PYTORCH, "weight_only_wi2", _WEIGHT_RANGE, execution=Execution.SIMULATED),
    _cell(Backend.PYTORCH, "weight_only_wi2_g32", _WEIGHT_RANGE, execution=Execution.SIMULATED),
    _cell(Backend.PYTORCH, "binary", execution=Execution.SIMULATED),
    _cell(Backend.PYTORCH, "ternary", execution=Execution.SIMULATED),
    _cell(Backend.PYTORCH, "float16", _LOWERED),
    _cell(Backend.PYTORCH, "bfloat16", _LOWERED),
    _cell(Backend.PYTORCH, "hybrid_wf16_ai8", _OBSERVER, _ACTIVATIONS, execution=Execution.SIMULATED),
    _cell(Backend.TFLITE, "float32"),
    _cell(Backend.TFLITE, "dynamic_wi8", keep_float_why_not=_WHOLE_MODEL),
    _cell(Backend.TFLITE, "static_wi8_ai8", _IO, _PER_CHANNEL, keep_float_why_not=_WHOLE_MODEL),
    _cell(Backend.TFLITE, "static_wi8_ai16", keep_float_why_not=_WHOLE_MODEL),
    _cell(Backend.TFLITE, "dynamic_wi4"),
    _cell(Backend.TFLITE, "static_wi4_ai8"),
    _cell(Backend.TFLITE, "weight_only_wi8"),
    _cell(Backend.TFLITE, "weight_only_wi4"),
    _cell(Backend.TFLITE, "float16", keep_float_why_not=_WHOLE_MODEL),
    _cell(Backend.TFLITE, "binary", execution=Execution.SIMULATED),
    _cell(Backend.TFLITE, "ternary", execution=Execution.SIMULATED),
    _cell(
        Backend.TFLITE,
        "weight_only_wi2",
        why_not="litert-quantizer takes 2 bits and, without an error, leaves every weight in float.",
    ),
    _cell(Backend.TFLITE, "weight_only_wi4_g32", why_not=_NO_BLOCKS),
    _cell(Backend.TFLITE, "weight_only_wi4_g128", why_not=_NO_BLOCKS),
    _cell(Backend.TFLITE, "weight_only_wi2_g32", why_not=_NO_BLOCKS),
    _cell(
        Backend.TFLITE,
        "hybrid_wf16_ai8",
        why_not="TFLite has no kernels that multiply float16 weights by 8-bit activations.",
    ),
    _cell(
        Backend.TFLITE,
        "bfloat16",
        why_not="TFLite has no bfloat16 kernels on the CPU; float16 stores weights at the same size.",
    ),
    _cell(Backend.ONNXRUNTIME, "float32"),
    _cell(Backend.ONNXRUNTIME, "dynamic_wi8", _OP_TYPES, _PER_CHANNEL, _DYNAMIC_TYPES),
    _cell(Backend.ONNXRUNTIME, "static_wi8_ai8", _FORMAT, _TYPES, _PER_CHANNEL, _REDUCE_RANGE, _CALIBRATOR),
    _cell(Backend.ONNXRUNTIME, "static_wi8_ai16", _PER_CHANNEL, _CALIBRATOR),
    _cell(Backend.ONNXRUNTIME, "static_wi4_ai8", _PER_CHANNEL, _CALIBRATOR),
    _cell(Backend.ONNXRUNTIME, "weight_only_wi8", _SCHEME),
    _cell(Backend.ONNXRUNTIME, "weight_only_wi8_g32", _SCHEME),
    _cell(Backend.ONNXRUNTIME, "weight_only_wi4", _SCHEME),
    _cell(Backend.ONNXRUNTIME, "weight_only_wi4_g32", _SCHEME),
    _cell(Backend.ONNXRUNTIME, "weight_only_wi4_g128", _SCHEME),
    _cell(Backend.ONNXRUNTIME, "weight_only_wi2", _SCHEME_2),
    _cell(Backend.ONNXRUNTIME, "weight_only_wi2_g32", _SCHEME_2),
    _cell(Backend.ONNXRUNTIME, "float16"),
    _cell(Backend.ONNXRUNTIME, "binary", execution=Execution.SIMULATED),
    _cell(Backend.ONNXRUNTIME, "ternary", execution=Execution.SIMULATED),
    _cell(Backend.ONNXRUNTIME, "hybrid_wf16_ai8", _CALIBRATOR, execution=Execution.SIMULATED),
    _cell(
        Backend.ONNXRUNTIME,
        "bfloat16",
        why_not="ONNX Runtime has no bfloat16 kernels for these layers on the CPU; float16 stores weights at the same size.",
    ),
    _cell(
        Backend.ONNXRUNTIME,
        "dynamic_wi4",
        why_not="ConvInteger and MatMulInteger, which quantize activations as they run, take 8-bit weights only.",
    ),
)
MIXED: Mapping[Backend, Capability] = {
    Backend.PYTORCH: Capability(
        Backend.PYTORCH,
        "mixed",
        "Mixed precision",
        Execution.SIMULATED,
        (_PER_CHANNEL, _WEIGHT_RANGE, _OBSERVER, _ACTIVATIONS),
    ),
    Backend.ONNXRUNTIME: Capability(
        Backend.ONNXRUNTIME, "mixed", "Mixed precision", Execution.NATIVE, (_PER_CHANNEL, _CALIBRATOR)
    ),
}
"""Mixed precision, whose codes are free text and therefore in no row of the table."""
CAPABILITIES: Mapping[tuple[Backend, str], Capability] = {(cell.backend, cell.code): cell for cell in _TABLE}
BACKENDS: tuple[Backend, ...] = tuple(dict.fromkeys(cell.backend for cell in _TABLE))


def techniques(backend: Backend) -> tuple[Capability, ...]:
    """Every technique of `backend`, possible or not, float baseline first."""
    return tuple(cell for cell in _TABLE if cell.backend is backend)


def parse_backend(name: str) -> Backend:
    """The backend called `name`.

    Raises:
        UnknownName: none of the built backends is called so.
    """
    if name not in BACKENDS:
        raise UnknownName.of("backend", name, BACKENDS)
    return Backend(name)


def capability(backend: Backend, technique: Technique) -> Capability:
    """The cell of `technique` on `backend`.

    Raises:
        UnknownName: no backend has such a technique.
        Unsupported: another backend has it, this one does not.
    """
    if technique.mode is Mode.MIXED and backend in MIXED:
        return MIXED[backend]
    cell = CAPABILITIES.get((backend, technique.code))
    if cell is None:
        known = [c.code for c in techniques(backend)]
        if technique.code in TECHNIQUE_TITLES:
            raise Unsupported(f"{technique.code} is not offered on {BACKEND_TITLES[backend]}.", f"It has: {', '.join(known)}.")
        raise UnknownName.of(f"technique of {BACKEND_TITLES[backend]}", technique.code, known)
    return cell


def require(backend: Backend, technique: Technique) -> Capability:
    """The cell of `technique` on `backend`, which must be possible.

    Raises:
        UnknownName: no backend has such a technique.
        Unsupported: this backend cannot do it; the message is the reason.
    """
    cell = capability(backend, technique)
    if cell.why_not:
        raise Unsupported(f"{cell.title} is impossible on {BACKEND_TITLES[backend]}: {cell.why_not}")
    return cell


def require_keep_float(backend: Backend, technique: Technique) -> None:
    """Makes sure that `technique` can leave single layers in float.

    Raises:
        Unsupported: it quantizes a whole model.
    """
    cell = capability(backend, technique)
    if cell.keep_float_why_not:
        what = f"{cell.title} cannot keep layers float on {BACKEND_TITLES[backend]}"
        raise Unsupported(f"{what}: {cell.keep_float_why_not}")


def resolve_options(backend: Backend, technique: Technique, given: Mapping[str, str | OptionValue]) -> Options:
    """The complete options of a technique: what was given where it applies, defaults elsewhere.

    Options that this technique does not have are ignored here, because one set serves several techniques; `check_options`
    refuses those that fit none.

    Raises:
        UnknownName: a value is none of the option's choices.
    """
    cell = capability(backend, technique)
    return {o.name: _choose(o, given[o.name]) if o.name in given else o.default for o in cell.options}


def check_options(cells: list[Capability], given: Mapping[str, str | OptionValue]) -> None:
    """Refuses options that none of `cells` knows.

    Raises:
        UnknownName: an option fits no technique.
    """
    known = {option.name for cell in cells for option in cell.options}
    for name in given:
        if name not in known:
            raise UnknownName.of("option of these techniques", name, known)


def _choose(option: Option, value: str | OptionValue) -> OptionValue:
    text = str(value).lower()
    for choice in option.choices:
        if str(choice).lower() == text:
            return choice
    raise UnknownName.of(f"value of {option.name}", str(value), [str(choice).lower() for choice in option.choices])
