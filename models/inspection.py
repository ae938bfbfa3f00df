"""What looking into a model file brought to light, as plain data: it crosses from the limited process that looked as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from models.float_model import Kind
from quantizers.schema import Backend
from quantizers.signature import Dimension

Shapes = Mapping[str, tuple[int, ...]]
"""Shapes that a person gave to inputs with free axes, by name, batch axis included."""


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output as the file declares it."""

    name: str
    dtype: str
    shape: tuple[Dimension, ...] | None
    """None where the file does not say."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a model file holds.

    Attributes:
        layers: names of the layers with weights, by which they can be kept in float.
        quantized: whether weights are stored in integers already.
        backends: why a backend cannot quantize it, by backend; None for those that can.
        batched: whether samples can be run together; None when that was not tried.
        output_size: length of the output of one sample, all outputs laid flat; None when the model was not run.
        facts: what else there is to say, as pairs for a person to read: opset, producer, operations, …
        notes: what a person should know: fall-backs taken, parts that could not be read.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    parameters: int
    layers: tuple[str, ...] = ()
    quantized: bool = False
    backends: Mapping[Backend, str | None] = field(default_factory=dict)
    batched: bool | None = None
    output_size: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Inspection:
        return cls(
            inputs=_ports(stored["inputs"]),
            outputs=_ports(stored["outputs"]),
            parameters=int(stored["parameters"]),
            layers=tuple(map(str, stored["layers"])),
            quantized=bool(stored["quantized"]),
            backends={Backend(name): why_not for name, why_not in stored["backends"].items()},
            batched=stored["batched"],
            output_size=stored["output_size"],
            facts=dict(stored["facts"]),
            notes=tuple(map(str, stored["notes"])),
        )


def plain_tensor(name: str, dtype: str, shape: Sequence[int], size: int) -> dict[str, Any]:
    """A tensor of `size` bytes without a scale, as `facts["tensors"]` lists them."""
    without: dict[str, Any] = {"scale": [], "zero_point": [], "axis": None, "block": None}
    return {"name": name, "dtype": dtype, "shape": list(shape), "bytes": size, **without}


@dataclass(frozen=True, slots=True)
class Converted:
    """What an inspector gives for a file that can only be used in another form: that one, made beside it, and what it holds."""

    path: Path
    kind: Kind
    inspection: Inspection


def _ports(stored: list[dict[str, Any]]) -> tuple[Port, ...]:
    return tuple(Port(one["name"], one["dtype"], None if one["shape"] is None else tuple(one["shape"])) for one in stored)
