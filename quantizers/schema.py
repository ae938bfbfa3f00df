"""The vocabulary: names of the field, one meaning each, as StrEnums and frozen dataclasses.

The convention everywhere is x̂ = scale · (q − zero_point) with integer q in [qmin, qmax]; scale and zero_point are per tensor,
per channel (axis named) or per group along the last axis (group size named).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantizers.errors import UnknownName

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]
OptionValue = str | int | float | bool
Options = Mapping[str, OptionValue]


class Backend(StrEnum):
    PYTORCH = "pytorch"
    TFLITE = "tflite"
    ONNXRUNTIME = "onnxruntime"


class Mode(StrEnum):
    FLOAT32 = "float32"
    DYNAMIC = "dynamic"
    STATIC = "static"
    WEIGHT_ONLY = "weight_only"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    BINARY = "binary"
    TERNARY = "ternary"
    HYBRID = "hybrid"
    QAT = "qat"
    MIXED = "mixed"


class Execution(StrEnum):
    """Whether the artefact computes with the numbers it stores, or a float graph imitates that."""

    NATIVE = "native"
    SIMULATED = "simulated"


class Granularity(StrEnum):
    PER_TENSOR = "per_tensor"
    PER_CHANNEL = "per_channel"
    PER_GROUP = "per_group"


class Scheme(StrEnum):
    SYMMETRIC = "symmetric"
    AFFINE = "affine"


class Role(StrEnum):
    WEIGHT = "weight"
    BIAS = "bias"
    INPUT = "input"
    OUTPUT = "output"


class Status(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    UNAVAILABLE = "unavailable"

    @property
    def active(self) -> bool:
        return self in (Status.QUEUED, Status.RUNNING)


_CODE = re.compile(
    r"(?P<mode>dynamic|static|weight_only|hybrid|qat)_w(?P<weight>[if]\d+)(?:_a(?P<activation>i\d+))?(?:_g(?P<group>\d+))?"
)
_PLAIN = {m for m in Mode if m in (Mode.FLOAT32, Mode.FLOAT16, Mode.BFLOAT16, Mode.BINARY, Mode.TERNARY)}


@dataclass(frozen=True, slots=True)
class Technique:
    """What is done to the numbers: a mode, the type of weights and of activations, and a group size.

    `weight` and `activation` are a kind and a width: "i8", "i4", "f16". `layers` is set for Mode.MIXED only: pairs of layer
    name (or glob) and bits, with 0 for "stays float".
    """

    mode: Mode
    weight: str | None = None
    activation: str | None = None
    group_size: int | None = None
    layers: tuple[tuple[str, int], ...] = ()

    @property
    def code(self) -> str:
        """The readable name used in the UI, in the store and in file names; `Technique.parse` reads it back."""
        if self.mode is Mode.MIXED:
            return "mixed:" + json.dumps({name: bits or "float" for name, bits in self.layers}, separators=(",", ":"))
        parts: list[str] = [self.mode.value]
        parts += [f"w{self.weight}"] if self.weight else []
        parts += [f"a{self.activation}"] if self.activation else []
        parts += [f"g{self.group_size}"] if self.group_size else []
        return "_".join(parts)

    @property
    def weight_bits(self) -> int | None:
        return int(self.weight[1:]) if self.weight else None

    @property
    def activation_bits(self) -> int | None:
        return int(self.activation[1:]) if self.activation else None

    @property
    def needs_calibration(self) -> bool:
        return self.mode in (Mode.STATIC, Mode.HYBRID, Mode.QAT, Mode.MIXED)

    @property
    def needs_training(self) -> bool:
        return self.mode is Mode.QAT

    def bits_by_layer(self, names: Sequence[str]) -> dict[str, int]:
        """Mixed precision: bits of each layer's weight, 0 for float: by its own name, else the first pattern, else float.

        Raises:
            UnknownName: an entry fits none of `names`.
        """
        for pattern, _ in self.layers:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise UnknownName.of("layer", pattern, names)
        exact = dict(self.layers)
        return {
            name: exact.get(name, next((bits for pattern, bits in self.layers if fnmatchcase(name, pattern)), 0))
            for name in names
        }

    @classmethod
    def parse(cls, code: str) -> Technique:
        """Reads a technique's code.

        Raises:
            UnknownName: the code follows none of the grammars.
        """
        if code in _PLAIN:
            return cls(Mode(code))
        if code.startswith("mixed:"):
            return cls(Mode.MIXED, layers=_parse_mixed(code))
        match = _CODE.fullmatch(code)
        if not match:
            raise UnknownName(f"“{code}” is not a technique.", "Codes look like static_wi8_ai8; list them with `techniques`.")
        group = match["group"]
        return cls(Mode(match["mode"]), match["weight"], match["activation"], int(group) if group else None)


def _parse_mixed(code: str) -> tuple[tuple[str, int], ...]:
    hint = 'Write mixed:{"conv1": 8, "dense": "float", "*": 4}.'
    try:
        choice = json.loads(code.removeprefix("mixed:"))
    except json.JSONDecodeError as error:
        raise UnknownName(f"The layers of “{code}” are not valid JSON: {error}.", hint) from error
    if not isinstance(choice, dict) or not choice or any(bits not in (2, 4, 8, 16, "float") for bits in choice.values()):
        raise UnknownName(f'“{code}” must map layer names to 2, 4, 8, 16 or "float".', hint)
    return tuple((str(name), 0 if bits == "float" else int(bits)) for name, bits in choice.items())


@dataclass(frozen=True, eq=False)
class QuantParams:
    """How integers stand for real numbers.

    `scale` and `zero_point` are 1-D and of equal length: one element per tensor, one per channel along `axis`, or, with
    `group_size`, one per group of consecutive elements along the last axis, in row-major order.
    """

    scale: NDArray[np.float64]
    zero_point: NDArray[np.int64]
    qmin: int
    qmax: int
    dtype: str
    axis: int | None = None
    group_size: int | None = None

    def __post_init__(self) -> None:
        scale = np.atleast_1d(np.asarray(self.scale, np.float64)).ravel()
        zero_point = np.broadcast_to(np.asarray(self.zero_point, np.int64).ravel(), scale.shape).copy()
        if self.axis is not None and self.group_size is not None:
            raise ValueError("parameters are per channel or per group, not both")
        if self.axis is None and self.group_size is None and scale.size != 1:
            raise ValueError(f"{scale.size} scales need an axis or a group size")
        if self.qmin >= self.qmax:
            raise ValueError(f"qmin {self.qmin} must be below qmax {self.qmax}")
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "zero_point", zero_point)

    @property
    def granularity(self) -> Granularity:
        if self.group_size is not None:
            return Granularity.PER_GROUP
        return Granularity.PER_TENSOR if self.axis is None else Granularity.PER_CHANNEL

    @property
    def scheme(self) -> Scheme:
        """Symmetric when every zero point is the middle of a signed grid (0) or of an unsigned one."""
        middle = 0 if self.qmin < 0 else (self.qmax + 1) // 2
        return Scheme.SYMMETRIC if bool(np.all(self.zero_point == middle)) else Scheme.AFFINE

    @property
    def bits(self) -> int:
        return int(self.qmax - self.qmin).bit_length()


@dataclass(frozen=True, eq=False)
class QuantizedTensor:
    """One tensor of a quantized model, beside the float values it stands for.

    Attributes:
        name: the backend's own name of the tensor.
        layer: the layer it belongs to, by the model's name for it.
        params: None when the tensor is kept in a float type.
        dtype: the type as stored: "int8", "int4", "float16", "float32", …
        codes: the stored values (integers, or floats when `params` is None); None for activations.
        reference: the float32 values they stand for, of the same shape; None for activations.
    """

    name: str
    layer: str
    role: Role
    dtype: str
    params: QuantParams | None = None
    codes: NDArray[Any] | None = None
    reference: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class QuantizedLayer:
    """One weighted operation (convolution, dense layer) of a quantized model, in execution order.

    `output` is the tensor the next operation reads, so after an activation function the backend fuses into the layer.
    `quantized` says whether the weight is stored in fewer bits than float32, `why_not` the reason when it is not. `runs_in`
    is the type the runtime computes in ("int8", "float32", …).
    """

    name: str
    native_name: str
    op: str
    quantized: bool
    weight: QuantizedTensor
    why_not: str | None = None
    bias: QuantizedTensor | None = None
    inputs: tuple[QuantizedTensor, ...] = ()
    output: QuantizedTensor | None = None
    runs_in: str = "float32"


NO_OPTIONS: Options = MappingProxyType({})
