"""Quantizing without a graph, the two lower rungs of the ladder: hooks on a module that runs, or its weights alone.

Weights are rounded as on a graph, and inputs of layers to grids found on the same samples; batch norms stay apart, and what
lies between the layers stays in float. What only a graph allows, training for one, is refused, never left out in silence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quantizers.adapter import Report, Request
from quantizers.errors import Unsupported
from quantizers.pytorch.annotate import BASELINE, DENSE_ONLY, KEPT_BY_CHOICE, NOT_A_PARAMETER
from quantizers.pytorch.bare_model import BareLayer, BareModel, describe_bare
from quantizers.pytorch.choice import HALF, Kinds, layer_of, weight_kinds
from quantizers.pytorch.hooks import HookedModule, calibrated, dynamic, single, static
from quantizers.pytorch.ladder import Climbed
from quantizers.pytorch.ptq import PLAIN, check_quantized, check_weights, choice_of, quantizer_of
from quantizers.pytorch.rewrite import rounded
from quantizers.pytorch.state_file import SUFFIX, StateFile, read, write
from quantizers.schema import Mode, QuantParams, Technique

NOT_REACHED = "no calibration sample reaches it, so the range of its input is not known"
_WHOLE_MODEL = {Mode.FLOAT16: torch.float16, Mode.BFLOAT16: torch.bfloat16}

Layers = Mapping[str, BareLayer]
Grids = Mapping[str, QuantParams]


def without_graph(climbed: Climbed, request: Request, calibration: Tensor | None, report: Report) -> BareModel:
    """Quantizes what `climbed` has; the file of tensors is left in `request.workdir`.

    Raises:
        Unsupported: the technique or one of its options needs a graph.
        BadData: a weight is empty, or holds NaN or infinity.
        NothingQuantized: there is no layer, or each has a reason to stay in float.
    """
    _refuse(request)
    hooked, technique = climbed.hooked, request.technique
    tensors = {name: value for name, value in climbed.module.state_dict().items() if isinstance(value, Tensor)}
    layers = {layer.name: layer for layer in (_of_modules(hooked, tensors) if hooked else _of_tensors(tensors))}
    check_weights({name: layer.weight for name, layer in layers.items()})
    wanted = _wanted(request, layers)
    grids = _calibrate(hooked, request, calibration, wanted, report) if hooked and technique.needs_calibration else None
    reasons = {name: _why_not(layer, wanted[name], technique, grids) for name, layer in layers.items()}
    if technique.mode is not Mode.FLOAT32:
        check_quantized(technique, reasons)
    kinds = {name: None if reasons[name] else kind for name, kind in wanted.items()}
    report(0.8, "rounding the weights")
    kept = _kept(layers, tensors, kinds, grids or {}, request)
    if hooked:
        _simulate(hooked, layers, kept, [name for name, kind in kinds.items() if kind], request)
    at_run_time = technique.mode is Mode.DYNAMIC
    described = describe_bare(layers, kept, reasons, runs=hooked is not None, dynamic=at_run_time)
    return BareModel(_path(request), described, hooked, climbed.steps)


def _refuse(request: Request) -> None:
    """What is asked for and needs a graph."""
    asked = [name for name, plain in PLAIN.items() if request.options.get(name, plain) != plain]
    if request.technique.mode is Mode.QAT:
        asked = [request.technique.code]
    if asked:
        what = f"{', '.join(asked)} needs a graph of the model, and PyTorch finds none of this module."
        raise Unsupported(what, "Choose a technique without training, with plain rounding.")


def _of_modules(hooked: HookedModule, tensors: Mapping[str, Tensor]) -> Iterator[BareLayer]:
    for name, part in hooked.layers.items():
        stem = f"{name}." if name else ""
        tensor, bias = (f"{stem}{kind}" if f"{stem}{kind}" in tensors else None for kind in ("weight", "bias"))
        weight: Any = part.weight
        yield BareLayer(name or "module", type(part).__name__, tensor, weight.detach().float().numpy().copy(), bias)


def _of_tensors(tensors: Mapping[str, Tensor]) -> Iterator[BareLayer]:
    """What is called a weight and has the axes of one."""
    for name, value in tensors.items():
        layer = layer_of(name, value.ndim)
        if layer is not None and value.is_floating_point():
            bias = f"{layer}.bias" if f"{layer}.bias" in tensors else None
            yield BareLayer(layer, f"tensor of {value.ndim} axes", name, value.detach().float().numpy().copy(), bias)


def _wanted(request: Request, layers: Layers) -> Kinds:
    """The type that every layer's weight should have."""
    kinds = weight_kinds(request.technique, list(layers), request.keep_float)
    if request.technique.mode not in _WHOLE_MODEL:
        return kinds
    return {name: None if name in request.keep_float else HALF for name in layers}


def _why_not(layer: BareLayer, kind: str | None, technique: Technique, grids: Grids | None) -> str | None:
    """Why a layer stays in float. `grids` None: its input is not rounded to a calibrated grid."""
    if technique.mode is Mode.FLOAT32:
        return BASELINE
    if kind is None:
        return KEPT_BY_CHOICE
    if layer.tensor is None:
        return NOT_A_PARAMETER
    if technique.mode is Mode.DYNAMIC and not layer.dense:
        return DENSE_ONLY
    return NOT_REACHED if grids is not None and layer.name not in grids else None


def _calibrate(hooked: HookedModule, request: Request, samples: Tensor | None, wanted: Kinds, report: Report) -> Grids:
    """The grid of the input of every layer that is to be quantized and that a sample reaches."""
    observers = {name: _observer(request) for name, kind in wanted.items() if kind}
    hooked.changes = observers
    every = [] if samples is None else single(samples)
    for done, sample in enumerate(every):
        report(0.8 * done / len(every), "calibrating")
        hooked.run(sample)
    hooked.changes = {}
    found = {name: calibrated(observer) for name, observer in observers.items()}
    return {name: grid for name, grid in found.items() if grid is not None}


def _observer(request: Request) -> Any:
    """What torchao would insert into a graph."""
    spec = quantizer_of(request).activation()
    return spec.observer_or_fake_quant_ctr(
        dtype=spec.dtype, quant_min=spec.quant_min, quant_max=spec.quant_max, qscheme=spec.qscheme
    )


def _kept(layers: Layers, tensors: Mapping[str, Tensor], kinds: Kinds, grids: Grids, request: Request) -> StateFile:
    """Writes the file, and reads back what it holds."""
    names = {name: layer.tensor for name, layer in layers.items() if layer.tensor is not None and kinds[name]}
    references = {name: layers[name].weight for name in names}
    made = rounded({name: kinds[name] for name in names}, references, choice_of(request.technique, request.options))
    half = _WHOLE_MODEL.get(request.technique.mode, torch.float16)
    halved = {tensor: half for name, tensor in names.items() if kinds[name] == HALF}
    stored = {name: value.to(halved.get(name, value.dtype)) for name, value in tensors.items()}
    used = {name: grid for name, grid in grids.items() if name in names}
    write(stored, {names[name]: codes for name, codes in made.items()}, used, _path(request))
    return read(_path(request))


def _path(request: Request) -> Path:
    return request.workdir / f"model{SUFFIX}"


def _simulate(hooked: HookedModule, layers: Layers, kept: StateFile, quantized: list[str], request: Request) -> None:
    """Gives the module the numbers of the file, and its layers inputs that are rounded as the file says."""
    with torch.no_grad():
        for name in quantized:
            weight: Any = hooked.layers[name].weight
            weight.copy_(kept.values(str(layers[name].tensor)))
    if request.technique.mode is Mode.DYNAMIC:
        hooked.changes = {name: dynamic(_observer(request)) for name in quantized}
    else:
        hooked.changes = {name: static(grid) for name, grid in kept.inputs.items()}
