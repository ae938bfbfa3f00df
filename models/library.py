"""Classifiers of torchvision and timm, where a person has them installed, with the weights of those libraries' own caches.

What there is to know of them stands in `data/library.json`, which `models.library_facts` writes from the libraries themselves:
so the pages list the models without importing any of it. Nothing is downloaded unless somebody asks for it:

    python -m models.library torchvision-resnet18
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from models.float_model import ModelInfo
from models.preprocessing import Preprocessing
from quantizers.errors import BadModel, QuantScopeError, UnknownName, Unsupported
from quantizers.schema import Backend

FACTS = Path(__file__).parent / "data" / "library.json"
_OTHER_BACKEND = "It is PyTorch code: export it to ONNX and bring the file under My models."
_CLASSES = 1000


class Library(StrEnum):
    TORCHVISION = "torchvision"
    TIMM = "timm"


INSTALL = {
    Library.TORCHVISION: "pip install --no-deps torchvision==0.28.0",
    Library.TIMM: "pip install --no-deps timm==1.0.31 torchvision==0.28.0",
}
"""Without --no-deps, pip may exchange PyTorch for the one that the newest torchvision wants."""
_NEEDS = {Library.TORCHVISION: ("torchvision",), Library.TIMM: ("timm", "torchvision")}


@dataclass(frozen=True, slots=True)
class Facts:
    """What a library says of one of its models and of one set of weights for it.

    Attributes:
        weights: the library's own name of the weights: "ResNet18_Weights.IMAGENET1K_V1", "resnet18.a1_in1k".
        place: where they come from: a URL for torchvision, a repository of the Hugging Face hub for timm.
        bytes: of the file of weights.
        mean: of the channels of the images it was trained on, whose pixels are from 0 to 1; so is `std`.
        layers: the weighted layers in execution order.
    """

    library: Library
    name: str
    weights: str
    place: str
    bytes: int
    licence: str
    parameters: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    layers: tuple[str, ...]

    @property
    def id(self) -> str:
        return f"{self.library}-{self.name}"

    @property
    def file(self) -> Path | None:
        """The weights in the library's own cache; None where they are not."""
        if self.library is Library.TORCHVISION:
            found = [_torch_home() / "hub" / "checkpoints" / self.place.rpartition("/")[2]]
        else:
            snapshots = _hugging_face_home() / f"models--{self.place.replace('/', '--')}" / "snapshots"
            found = sorted(snapshots.glob("*/model.safetensors"))
        return next((path for path in found if path.is_file()), None)


@dataclass(frozen=True, eq=False)
class LibraryModel:
    """A library's module with its weights; meets `FloatModel`."""

    info: ModelInfo
    layer_names: tuple[str, ...]
    module: Any

    @property
    def digest(self) -> str:
        """SHA-256 of the weights' names and values, in hexadecimal."""
        state = hashlib.sha256()
        for name, tensor in sorted(self.module.state_dict().items()):
            state.update(name.encode() + np.ascontiguousarray(tensor.numpy()).tobytes())
        return state.hexdigest()

    def torch_module(self) -> Any:
        """An eval-mode nn.Module taking [N, 3, H, W] float32, with the library's own names of its layers."""
        return copy.deepcopy(self.module)

    def keras_model(self) -> Any:
        raise Unsupported(_OTHER_BACKEND)

    def onnx_model(self) -> Any:
        raise Unsupported(_OTHER_BACKEND)

    def tflite_file(self) -> Path:
        raise Unsupported(_OTHER_BACKEND)


@cache
def known() -> Mapping[str, Facts]:
    """The models there are facts of, by id."""
    listed = (_facts(one) for one in json.loads(FACTS.read_text("utf-8")))
    return {facts.id: facts for facts in listed}


def facts_of(model_id: str) -> Facts:
    """Raises: UnknownName: there is no such model."""
    if model_id not in known():
        raise UnknownName.of("model", model_id, known())
    return known()[model_id]


def catalogue() -> tuple[ModelInfo, ...]:
    """The models, also those that cannot be used here; imports neither library."""
    reasons = {library: _not_installed(library) for library in Library}
    return tuple(_info(facts, reasons[facts.library]) for facts in known().values())


def load(model_id: str) -> LibraryModel:
    """A model with its weights, preprocessed as the library says; for a trial's own process.

    Raises:
        UnknownName: there is no such model.
        Unsupported: the library or the weights are not here; the message says how to get them.
        BadModel: the cached file holds other weights.
    """
    facts = facts_of(model_id)
    info = _info(facts, _not_installed(facts.library))
    if info.why_not or facts.file is None:
        raise Unsupported(f"{info.title} cannot be used here: {info.why_not}", fetch_command(facts))
    module, mean, std = build(facts)
    try:
        module.load_state_dict(_state(facts.file))
    except (RuntimeError, AttributeError) as error:  # torch: names or shapes differ, or the file holds no state_dict
        first = str(error).strip().split("\n")[0]
        raise BadModel(f"{facts.file} does not hold the weights of {info.title}: {first}", "Delete it.") from error
    return LibraryModel(replace(info, preprocessing=Preprocessing.from_mean_std(mean, std)), facts.layers, module.eval())


def build(facts: Facts) -> tuple[Any, Sequence[float], Sequence[float]]:
    """The untrained module, and mean and standard deviation of the weights' own metadata."""
    torchvision = import_torchvision()
    if facts.library is Library.TORCHVISION:
        transforms = torchvision.models.get_weight(facts.weights).transforms()
        return torchvision.models.get_model(facts.name, weights=None), transforms.mean, transforms.std
    timm = import_module("timm")
    config = timm.get_pretrained_cfg(facts.weights)
    return timm.create_model(facts.name, pretrained=False), config.mean, config.std


def import_torchvision() -> Any:
    """torchvision, also where its compiled half cannot be loaded.

    The wheel of PyPI is compiled for CUDA. Beside a PyTorch for CPUs its import stops where it describes two operations of
    object detection that are not there; declared without a kernel, they do not stand in the way of classifiers.
    """
    try:
        return import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        _declare_detection()
        return import_module("torchvision")


@cache
def _declare_detection() -> Any:
    """Returns the declarations, which live as long as the object does."""
    declared = import_module("torch").library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        declared.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return declared


def fetch(model_id: str) -> Path:
    """Downloads the weights of a model into its library's cache, unless they are there.

    Raises:
        UnknownName: there is no such model.
        Unsupported: the library is not installed, or nothing can be downloaded here.
    """
    facts = facts_of(model_id)
    if why_not := _not_installed(facts.library):
        raise Unsupported(why_not, INSTALL[facts.library])
    if facts.file is None:
        try:
            _download(facts)
        except OSError as error:
            what = f"The weights of {_title(facts)} could not be downloaded from {facts.place}: {error}."
            raise Unsupported(
                what, "Try again with a connection to the internet, or copy the cache of another machine."
            ) from error
    assert facts.file is not None, "a download without an error leaves a file"
    return facts.file


def _download(facts: Facts) -> None:
    if facts.library is Library.TORCHVISION:
        import torch

        torch.hub.load_state_dict_from_url(facts.place, map_location="cpu", check_hash=True, weights_only=True)
        return
    if find_spec("huggingface_hub") is None:
        raise Unsupported("timm's weights are on the Hugging Face hub, whose client is missing.", "pip install huggingface-hub")
    import_module("huggingface_hub").hf_hub_download(facts.place, "model.safetensors")


def fetch_command(facts: Facts) -> str:
    return f"python -m models.library {facts.id}"


def _info(facts: Facts, not_installed: str | None) -> ModelInfo:
    megabytes = f"{facts.bytes / 1e6:.0f} MB"
    missing = (
        None if facts.file else f"Its weights are not in the cache of {facts.library}; {fetch_command(facts)} downloads them"
    )
    return ModelInfo(
        id=facts.id,
        title=_title(facts),
        task="image classification",
        summary=f"{facts.name} of {facts.library}, {len(facts.layers)} convolutions and dense layers; ImageNet classes.",
        parameters=facts.parameters,
        input_shape=(facts.size, facts.size, 3),
        classes=_CLASSES,
        labels=None,
        datasets=("photos",),
        licence=facts.licence,
        origin=f"{facts.weights}, {facts.place}",
        preprocessing=Preprocessing.from_mean_std(facts.mean, facts.std),
        why_not=not_installed or (missing and f"{missing} ({megabytes})."),
        backends={backend: None if backend is Backend.PYTORCH else _OTHER_BACKEND for backend in Backend},
    )


def _title(facts: Facts) -> str:
    return f"{facts.name} ({facts.library})"


def _not_installed(library: Library) -> str | None:
    """Why the library cannot be used, as far as can be told without importing it."""
    for package in _NEEDS[library]:
        if find_spec(package) is None:
            return f"It comes with {package}, not installed here: {INSTALL[library]}"
    try:
        wanted = next((one for one in requires("torchvision") or () if re.match(r"torch\s*==", one)), None)
        here = version("torch").partition("+")[0]
    except PackageNotFoundError:
        return None
    if wanted is None or wanted.partition("==")[2].strip() == here:
        return None
    return f"torchvision {version('torchvision')} needs {wanted}, and {here} is installed: {INSTALL[library]}"


def _state(path: Path) -> Any:
    """Tensors by name; a PyTorch file is read as data, nothing in it is run."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    import torch

    return torch.load(path, map_location="cpu", weights_only=True)


def _facts(stored: Mapping[str, Any]) -> Facts:
    lists = {name: tuple(stored[name]) for name in ("mean", "std", "layers")}
    return Facts(**{**stored, **lists, "library": Library(stored["library"])})


def _cache_home() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()


def _torch_home() -> Path:
    """Where torch.hub keeps what it downloads (its documentation: TORCH_HOME)."""
    chosen = os.environ.get("TORCH_HOME")
    return Path(chosen).expanduser() if chosen else _cache_home() / "torch"


def _hugging_face_home() -> Path:
    """Where huggingface_hub keeps repositories (its documentation: HF_HUB_CACHE, HF_HOME)."""
    if chosen := os.environ.get("HF_HUB_CACHE"):
        return Path(chosen).expanduser()
    chosen = os.environ.get("HF_HOME")
    return (Path(chosen).expanduser() if chosen else _cache_home() / "huggingface") / "hub"


if __name__ == "__main__":
    try:
        print(*[fetch(model_id) for model_id in sys.argv[1:]], sep="\n")
    except QuantScopeError as error:
        sys.exit(f"{error.message} {error.hint}".strip())
