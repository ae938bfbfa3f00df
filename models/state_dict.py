"""Bare weights of a person's own: read as data only, and matched with an architecture of the zoo by names and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import zoo
from models.file_kind import detect
from models.float_model import Kind
from quantizers.errors import BadModel, UnknownName

Weights = Mapping[str, NDArray[np.float32]]
_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model")
_PREFIXES = ("module.", "model.", "_orig_mod.")


def read(path: Path, architecture: str) -> Weights:
    """The weights of `architecture` in a .safetensors or PyTorch checkpoint; for a limited process or a trial's own.

    Raises:
        BadModel: the file does not hold them, or some are not finite.
    """
    weights = _matched(read_tensors(path), architecture)
    if isinstance(weights, str):
        raise BadModel(weights, "Bring the state_dict of this architecture.")
    if broken := [name for name, array in weights.items() if not np.isfinite(array).all()]:
        raise BadModel(f"The weights {', '.join(broken[:3])} hold NaN or infinity.", "Train the model again.")
    return weights


def recognise(path: Path, architecture: str | None) -> str:
    """The architecture of the zoo that the weights belong to: the one given, else the one that they fit.

    Raises:
        BadModel: they fit none.
        UnknownName: the zoo has no such architecture.
    """
    known = [info.id for info in zoo.catalogue()]
    if architecture is not None and architecture not in known:
        raise UnknownName.of("architecture", architecture, known)
    tensors = read_tensors(path)
    reasons = {}
    for candidate in [architecture] if architecture else known:
        weights = _matched(tensors, candidate)
        if not isinstance(weights, str):
            return candidate
        reasons[candidate] = weights
    held = ", ".join(f"{name} {array.shape}" for name, array in list(tensors.items())[:4])
    what = reasons[architecture] if architecture else f"The weights fit no architecture of the zoo; they are {held}, …"
    raise BadModel(what, f"Known architectures: {', '.join(known)}.")


def read_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays by name, without the wrappers and prefixes that training scripts put around them."""
    if detect(path) is Kind.SAFETENSORS:
        from safetensors.numpy import load_file

        tensors: dict[str, NDArray[Any]] = load_file(path)
    else:
        tensors = _checkpoint(path)
    for prefix in _PREFIXES:
        if tensors and all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): array for name, array in tensors.items()}
    return tensors


def _checkpoint(path: Path) -> dict[str, NDArray[Any]]:
    """A PyTorch checkpoint, of which nothing but tensors and plain containers is unpickled."""
    import torch

    state = torch.load(path, map_location="cpu", weights_only=True)
    for wrapper in _WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict):
        raise BadModel(f"The checkpoint holds a {type(state).__name__}, not a state_dict.", "Save model.state_dict().")
    return {name: value.detach().float().numpy() for name, value in state.items() if isinstance(value, torch.Tensor)}


def _matched(tensors: Mapping[str, NDArray[Any]], architecture: str) -> Weights | str:
    """The canonical weights, or why these are not they."""
    shapes = zoo.design(architecture).weight_shapes
    if missing := [name for name in shapes if name not in tensors]:
        return f"The weights of {architecture} are not all there: {', '.join(missing[:3])} missing."
    if odd := [name for name, shape in shapes.items() if tensors[name].shape != shape]:
        found = tensors[odd[0]].shape
        return f"{odd[0]} has the shape {found}; that of {architecture} is {shapes[odd[0]]}."
    if extra := [name for name in tensors if name not in shapes and not name.endswith("num_batches_tracked")]:
        return f"The file holds weights that {architecture} does not have: {', '.join(extra[:3])}."
    return {name: np.asarray(tensors[name], np.float32) for name in shapes}
