"""An entry of “My models”: what a person brought, what was found in it, and what they chose; stored as JSON with a version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from models import datasets, zoo
from models.float_model import Kind, ModelInfo, Source
from models.inspection import Inspection, Port, Shapes
from models.preprocessing import UNIT_RANGE, Preprocessing
from quantizers.errors import BadData, BadModel, Unsupported
from quantizers.schema import Backend
from quantizers.signature import Input, Layout, Signature, resolve, text

SCHEMA = 1
PREFIX = "mine-"
"""No id of the zoo begins with it."""
_OWN_BACKEND = {
    Kind.ONNX: Backend.ONNXRUNTIME,
    Kind.TFLITE: Backend.TFLITE,
    Kind.KERAS: Backend.TFLITE,
    Kind.SAFETENSORS: Backend.PYTORCH,
    Kind.TORCH: Backend.PYTORCH,
    Kind.PT2: Backend.PYTORCH,
    Kind.TORCHSCRIPT: Backend.PYTORCH,
}
"""The backend that takes files of a kind; bare weights only where they belong to no architecture, which every backend has."""
_NOT_TRUSTED = "Reading the file can run code of its own, and nobody has said that it is trusted. Add it again, and say so."
_CHANNELS = (1, 3, 4)


@dataclass(frozen=True, slots=True)
class Entry:
    """One model of a person's own.

    Attributes:
        file: the model's file, relative to the entry's folder.
        digest: SHA-256 of what was uploaded, in hexadecimal.
        added: when, in ISO 8601.
        shapes: shapes given to inputs with free axes.
        architecture: the zoo's architecture that bare weights belong to.
        trusted: whether the person lets the file run code of its own.
    """

    id: str
    title: str
    kind: Kind
    file: str
    digest: str
    bytes: int
    added: str
    inspection: Inspection
    preprocessing: Preprocessing = UNIT_RANGE
    shapes: Shapes = field(default_factory=dict)
    labels: tuple[str, ...] | None = None
    architecture: str | None = None
    trusted: bool = False
    schema: int = SCHEMA

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Entry:
        """Reads every version ever written.

        Raises:
            BadModel: a later version of the program wrote it.
        """
        if stored["schema"] > SCHEMA:
            raise BadModel(f"{stored['title']} was added by a later version of the program.", "Update the program.")
        return cls(
            id=stored["id"],
            title=stored["title"],
            kind=Kind(stored["kind"]),
            file=stored["file"],
            digest=stored["digest"],
            bytes=int(stored["bytes"]),
            added=stored["added"],
            inspection=Inspection.from_dict(stored["inspection"]),
            preprocessing=Preprocessing.from_dict(stored["preprocessing"]),
            shapes={name: tuple(shape) for name, shape in stored["shapes"].items()},
            labels=None if stored["labels"] is None else tuple(stored["labels"]),
            architecture=stored["architecture"],
            trusted=stored.get("trusted", False),
        )


def signature(entry: Entry) -> Signature:
    """The inputs of the entry's model, free axes filled in.

    Raises:
        BadData: an axis is free and no size was given for it.
        Unsupported: it takes no numbers.
    """
    return signature_of(entry.inspection.inputs, entry.shapes, entry.preprocessing.layout, entry.inspection.batched)


def signature_of(ports: tuple[Port, ...], shapes: Shapes, layout: Layout | None, batched: bool | None) -> Signature:
    """The signature of declared inputs. `batched` None: as the file says, with a free first axis in every input."""
    inputs = []
    for port in ports:
        given = shapes.get(port.name)
        if port.shape is None and given is None:
            what = f"The file does not say what shape the input {port.name} has."
            raise BadData(what, f"Give it, e.g. {port.name}=1x3x224x224.")
        shape = resolve(port.name, port.shape, given) if port.shape is not None else given
        assert shape is not None
        inputs.append(Input(port.name, port.dtype, shape))
    free = all(port.shape and not isinstance(port.shape[0], int) for port in ports)
    together = free and all(one.shape[0] == 1 for one in inputs) if batched is None else batched
    return Signature(tuple(inputs), together, layout or _usual_layout(inputs))


def _usual_layout(inputs: list[Input]) -> Layout:
    """Where images of this shape have their channels: the one axis of a length that channels have."""
    shape = inputs[0].shape if len(inputs) == 1 else ()
    first = len(shape) == 4 and shape[1] in _CHANNELS and shape[3] not in _CHANNELS
    return Layout.CHANNELS_FIRST if first else Layout.AS_IT_IS


def info(entry: Entry) -> ModelInfo:
    """What the catalogue says of the entry."""
    if entry.architecture is not None:
        return _weights_info(entry, entry.architecture)
    if entry.kind in (Kind.SAFETENSORS, Kind.TORCH):
        return _bare_info(entry)
    taken, why_not = None, _NOT_TRUSTED if entry.kind.is_program and not entry.trusted else None
    try:
        taken = signature(entry)
    except (BadData, Unsupported) as error:
        why_not = f"{error.message} {error.hint}".strip()
    shape = () if taken is None else taken.sample_shape
    found = entry.inspection
    return ModelInfo(
        **_common(entry),
        task="image model" if _is_image(shape) else "model of tensors",
        summary=f"Your own {entry.kind} file; it takes {_inputs_text(found)}.",
        parameters=found.parameters,
        input_shape=shape,
        classes=found.output_size,
        labels=entry.labels,
        datasets=() if taken is None else datasets.fitting(shape),
        why_not=why_not,
        backends=_backends(entry),
        signature=taken,
        quantized=found.quantized,
    )


def _common(entry: Entry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "title": entry.title,
        "licence": "your own",
        "origin": "a file of your own",
        "preprocessing": entry.preprocessing,
        "source": Source.MINE,
        "kind": entry.kind,
    }


def _weights_info(entry: Entry, architecture: str) -> ModelInfo:
    """Bare weights in an architecture of the zoo: every backend can take them."""
    design = zoo.design(architecture)
    return ModelInfo(
        **_common(entry),
        task="image classification",
        summary=f"Your own weights in the architecture {architecture}.",
        parameters=design.parameters,
        input_shape=design.input_shape,
        classes=design.shapes[design.output][0],
        labels=entry.labels,
        datasets=datasets.fitting(design.input_shape),
    )


def _bare_info(entry: Entry) -> ModelInfo:
    """Weights without an architecture: nothing can run them."""
    return ModelInfo(
        **_common(entry),
        task="weights alone",
        summary=f"Your own weights, {len(entry.inspection.layers)} of them of layers; nothing says how to run them.",
        parameters=entry.inspection.parameters,
        input_shape=(),
        classes=None,
        labels=None,
        datasets=datasets.fitting(()),
        backends=_backends(entry),
    )


def _backends(entry: Entry) -> dict[Backend, str | None]:
    own = _OWN_BACKEND[entry.kind]
    elsewhere = f"A file of the kind {entry.kind} is quantized by {own} only."
    found = entry.inspection
    measurable = found.quantized and found.output_size is not None  # Catalogue's refusal keeps it from being quantized again.
    reasons = {} if measurable else dict(found.backends)
    return {backend: None if backend is own else elsewhere for backend in Backend} | reasons


def _is_image(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and shape[-1] in _CHANNELS


def _inputs_text(found: Inspection) -> str:
    return ", ".join(f"{port.name} ({port.dtype}, {'?' if port.shape is None else text(port.shape)})" for port in found.inputs)
