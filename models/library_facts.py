"""Writes `data/library.json` from torchvision and timm as they are installed: python -m models.library_facts

It runs each model once, untrained, to learn its layers in execution order; no weights are needed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from models.library import FACTS, Facts, Library, build, import_torchvision
from models.photos import SIZE

_TORCHVISION = {
    "resnet18": "ResNet18_Weights.IMAGENET1K_V1",
    "resnet50": "ResNet50_Weights.IMAGENET1K_V2",
    "mobilenet_v2": "MobileNet_V2_Weights.IMAGENET1K_V2",
    "mobilenet_v3_large": "MobileNet_V3_Large_Weights.IMAGENET1K_V2",
}
_TIMM = {
    "resnet18": "resnet18.a1_in1k",
    "resnet50": "resnet50.a1_in1k",
    "mobilenetv2_100": "mobilenetv2_100.ra_in1k",
    "mobilenetv3_large_100": "mobilenetv3_large_100.ra_in1k",
}
"""The libraries' names of models, with their names of weights made for images as large as the photos at hand."""


def facts() -> list[dict[str, Any]]:
    """What the libraries say, model by model."""
    return [_torchvision(*one) for one in _TORCHVISION.items()] + [_timm(*one) for one in _TIMM.items()]


def _torchvision(name: str, weights: str) -> dict[str, Any]:
    found = import_torchvision().models.get_weight(weights)
    (size,) = found.transforms().crop_size
    told = {"place": found.url, "bytes": round(found.meta["_file_size"] * 2**20), "licence": "BSD-3-Clause"}
    return _completed(Library.TORCHVISION, name, weights, told, size)


def _timm(name: str, weights: str) -> dict[str, Any]:
    import_torchvision()
    found = import_module("timm").get_pretrained_cfg(weights)
    told = {"place": found.hf_hub_id, "bytes": None, "licence": {"apache-2.0": "Apache-2.0"}[found.license]}
    return _completed(Library.TIMM, name, weights, told, found.input_size[1])


def _completed(library: Library, name: str, weights: str, told: Mapping[str, Any], size: int) -> dict[str, Any]:
    """What is told, with what the module itself says: its parameters, layers and, in float32, its bytes."""
    assert size == SIZE, f"{name} takes images of {size} pixels, and the photos have {SIZE}"
    named: dict[str, Any] = {"library": library, "name": name, "weights": weights}
    module, mean, std = build(Facts(**named, **told, parameters=0, size=size, mean=(), std=(), layers=()))
    parameters = sum(parameter.numel() for parameter in module.parameters())
    state = 4 * sum(tensor.numel() for tensor in module.state_dict().values())
    told = {**told, "bytes": told["bytes"] or state, "parameters": parameters, "size": size}
    return {**named, **told, "mean": list(mean), "std": list(std), "layers": _layers(module.eval(), size)}


def _layers(module: Any, size: int) -> list[str]:
    """The convolutions and dense layers in the order in which they run."""
    import torch

    ran: list[str] = []
    for name, part in module.named_modules():
        if isinstance(part, torch.nn.Conv2d | torch.nn.Linear):
            part.register_forward_hook(lambda *_, name=name: ran.append(name))
    with torch.inference_mode():
        module(torch.zeros(1, 3, size, size))
    return ran


if __name__ == "__main__":
    FACTS.write_text(json.dumps(facts(), indent=1) + "\n", "utf-8")
