"""The one door to models: the zoo's, the sentence encoder, those of installed libraries and a person's own, by id (facade).

Cheap to ask; only `load` imports a framework.
"""

from __future__ import annotations

from models import library, mine, minilm, zoo
from models.entry import PREFIX
from models.float_model import FloatModel, Kind, ModelInfo
from quantizers.errors import UnknownName, Unsupported
from quantizers.schema import Backend, Mode, Technique

__all__ = ["catalogue", "info", "layer_names", "load", "refusal"]


def catalogue() -> tuple[ModelInfo, ...]:
    """All models, also those that cannot be loaded here; the zoo first."""
    return (*zoo.catalogue(), minilm.info(), *library.catalogue(), *mine.catalogue())


def info(model_id: str) -> ModelInfo:
    """What there is to know of a model.

    Raises:
        UnknownName: there is none of that id.
        Unsupported: it is there and cannot be used on this machine.
    """
    found = {one.id: one for one in catalogue()}
    if model_id not in found:
        raise UnknownName.of("model", model_id, found)
    if why_not := found[model_id].why_not:
        raise Unsupported(f"{found[model_id].title} cannot be used here: {why_not}")
    return found[model_id]


def load(model_id: str) -> FloatModel:
    """Loads a model with its weights; for a trial's own process.

    Raises:
        UnknownName: there is none of that id.
        Unsupported: it cannot be used here; the hint says what would help.
    """
    if model_id == minilm.ID:
        return minilm.load()
    if model_id in library.known():
        return library.load(model_id)
    return mine.load(model_id) if model_id.startswith(PREFIX) else zoo.load(model_id)


def layer_names(model_id: str) -> tuple[str, ...]:
    """The layers that can be kept in float, without loading the model.

    Raises:
        UnknownName: there is no such model.
    """
    if model_id == minilm.ID:
        return minilm.DESIGN.layer_names
    if model_id in library.known():
        return library.facts_of(model_id).layers
    return mine.layer_names(model_id) if model_id.startswith(PREFIX) else zoo.design(model_id).layer_names


def refusal(model: ModelInfo, backend: Backend, technique: Technique) -> Unsupported | None:
    """Why this model cannot be taken through this technique by this backend; None when nothing speaks against it."""
    if why_not := model.backends.get(backend):
        return Unsupported(why_not)
    if model.quantized and technique.mode is not Mode.FLOAT32:
        what = f"{model.title} is quantized already: it can be inspected and measured as it is."
        return Unsupported(what, "Bring the float model it was made from.")
    if backend is Backend.TFLITE and technique.group_size and (why_not := _uneven(model.id, technique.group_size)):
        return Unsupported(why_not, "ONNX Runtime fills up the last block: it takes the same technique.")
    if technique.needs_training and model.kind in (Kind.ONNX, Kind.TFLITE):
        what = f"{technique.code} trains the network, and {model.title} is a file of the kind {model.kind} without its code."
        return Unsupported(what, "Bring its weights as .safetensors in an architecture of the zoo.")
    return None


def _uneven(model_id: str, block: int) -> str | None:
    """Why TFLite cannot store the weights of a model of the zoo in blocks; None where it can, and of others."""
    try:
        shapes = zoo.design(model_id).weight_shapes
    except UnknownName:
        return None
    inputs = [shape[1] for name, shape in shapes.items() if name.endswith(".weight") and len(shape) == 2]
    if any(number % block == 0 for number in inputs):
        return None
    found = " and ".join(f"{number:,}" for number in inputs) or "none"
    return f"TFLite has blocks of {block} weights in dense layers whose inputs are a multiple of that; they are {found} here."
