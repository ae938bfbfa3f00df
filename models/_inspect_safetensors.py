"""Looks into a file of bare weights; runs in the limited process only."""

from __future__ import annotations

from pathlib import Path

from models import zoo
from models.inspect_process import Request
from models.inspection import Inspection, plain_tensor
from models.state_dict import read, read_tensors, recognise
from quantizers.errors import BadModel
from quantizers.pytorch.choice import layer_of


def inspect(path: Path, request: Request) -> Inspection:
    """The architecture that the weights belong to, and that they are all there and finite; else what is known without one.

    Raises:
        BadModel: they do not belong to the one that was named, or none of them is the weight of a layer.
    """
    try:
        architecture = recognise(path, request.architecture)
    except BadModel as refusal:
        if request.architecture is not None:
            raise
        return _alone(path, refusal)
    read(path, architecture)
    design = zoo.design(architecture)
    return Inspection((), (), design.parameters, design.layer_names, facts={"architecture": architecture})


def _alone(path: Path, refusal: BadModel) -> Inspection:
    """Weights that nothing says how to run: what rounding does to each can still be looked at."""
    tensors = {name: array for name, array in read_tensors(path).items() if array.dtype.kind == "f"}
    named = [layer_of(name, array.ndim) for name, array in tensors.items()]
    layers = tuple(layer for layer in named if layer is not None)
    if not layers:
        raise refusal
    return Inspection(
        inputs=(),
        outputs=(),
        parameters=sum(array.size for array in tensors.values()),
        layers=layers,
        facts={
            "architecture": None,
            "tensors": [plain_tensor(name, str(array.dtype), array.shape, array.nbytes) for name, array in tensors.items()],
        },
        notes=(f"{refusal.message} So they are looked at alone: what rounding does to each, and no answers.",),
    )
