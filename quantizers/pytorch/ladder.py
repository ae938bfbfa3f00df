"""From any module to a graph of operations: several ways, the best first, until one gives what the module itself computes.

Which way was taken, and why not a better one, is kept as steps for a person to read. A graph is believed only when it agrees
with the module on samples it was not traced with: tracing can freeze a branch that depends on the data.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx import GraphModule

from quantizers.errors import ConversionFailed
from quantizers.pytorch.graph import layer_name, layers
from quantizers.pytorch.program import export

_AGREES = 1e-3
"""How far a graph's output may lie from the module's, as a share of the largest value."""
_TRIED = 3
"""Samples to compare on: another number than the graph was traced with."""
_LONGEST = 300


@dataclass(frozen=True, slots=True)
class Step:
    """One way that was tried, and what came of it in words."""

    name: str
    outcome: str


def climb(module: torch.nn.Module, sample: torch.Tensor) -> tuple[ExportedProgram, tuple[Step, ...]]:
    """The module as a graph for any batch size. A module with several outputs is taken by its first tensor, for good.

    Raises:
        ConversionFailed: the module does not run on two samples at once, or no way gives its graph; the message says why.
    """
    steps = _prepare(module, sample)
    for name, way in _WAYS.items():
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "The tensor attributes", UserWarning)  # an LSTM keeps aliases of its weights
                exported = way(module, sample)
            outcome = _difference(module, exported, sample)
        except Exception as error:  # a module may hold anything, and torch raises whatever it likes
            outcome = _words(error)
        steps.append(Step(name, outcome or "taken: the graph computes what the module does"))
        if outcome is None:
            _tell_apart(exported)
            return exported, tuple(steps)
    why = "; ".join(f"{step.name}: {step.outcome}" for step in steps)
    raise ConversionFailed(
        f"PyTorch finds no graph of the module. {why}", "Avoid NumPy and branches that depend on values in forward."
    )


def _prepare(module: torch.nn.Module, sample: torch.Tensor) -> list[Step]:
    """Runs the module once, and makes it give one tensor."""
    try:
        with torch.no_grad():
            output = module(sample)
    except Exception as error:
        what = f"The module does not run on {len(sample)} samples at once: {_words(error)}"
        raise ConversionFailed(what, "It has to take a batch of any size.") from error
    if isinstance(output, torch.Tensor):
        return []
    _first_tensor(output)
    module.register_forward_hook(lambda _module, _inputs, outputs: _first_tensor(outputs))
    return [Step("outputs", f"The module gives a {type(output).__name__}: the first tensor in it is what is compared.")]


def _first_tensor(output: Any) -> torch.Tensor:
    """Depth first.

    Raises:
        ConversionFailed: there is none.
    """
    while not isinstance(output, torch.Tensor):
        parts = list(output.values() if isinstance(output, Mapping) else output if isinstance(output, Sequence) else ())
        if not parts:
            raise ConversionFailed("The module gives no tensor.", "Its output must be a tensor, or hold one.")
        output = parts[0]
    return output


def _strict(module: torch.nn.Module, sample: torch.Tensor) -> ExportedProgram:
    return export(module, sample, strict=True)


def _torchscript(module: torch.nn.Module, sample: torch.Tensor) -> ExportedProgram:
    """Compiled from source, not traced, so that branches stay; the names of modules are lost on the way."""
    from torch._export.converter import TS2EPConverter

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated as a whole
        converted: Any = TS2EPConverter(torch.jit.script(module), (sample,)).convert()
    return export(converted.module(), sample)


def _difference(module: torch.nn.Module, exported: ExportedProgram, sample: torch.Tensor) -> str | None:
    """What the graph computes otherwise than the module; None when it agrees."""
    noise = torch.rand((_TRIED, *sample.shape[1:]), generator=torch.Generator().manual_seed(0))
    program = exported.module(check_guards=False)
    inner = [part for part in program.modules() if isinstance(part, GraphModule) and part is not program]
    if any(layers(part.graph) for part in inner):
        return "left out: layers lie in branches that depend on values, where they could not be quantized"
    with torch.no_grad():
        for x in (noise, -noise):
            expected, found = module(x).double(), program(x).double()
            if expected.shape != found.shape:
                return "left out: its graph gives another shape than the module"
            if not expected.numel() or not expected.isfinite().all():
                continue  # NaN weights and empty layers are refused later, with their names
            apart = (expected - found).abs().max().item()
            if not apart <= _AGREES * max(expected.abs().max().item(), 1.0):
                return f"left out: its graph is {apart:.3g} from the module on other samples"
    return None


def _tell_apart(exported: ExportedProgram) -> None:
    """Numbers the calls of a module that is called several times, so that each is a layer of its own: "first", "first#2"."""
    calls: Counter[str] = Counter()
    for layer in layers(exported.graph):
        name = layer_name(layer)
        calls[name] += 1
        if calls[name] > 1:
            *outer, (key, (_, kind)) = layer.meta["nn_module_stack"].items()
            layer.meta["nn_module_stack"] = {**dict(outer), key: (f"{name}#{calls[name]}", kind)}


def _words(error: Exception) -> str:
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first}"[:_LONGEST]


_WAYS: Mapping[str, Callable[[torch.nn.Module, torch.Tensor], ExportedProgram]] = {
    "torch.export": export,
    "torch.export, strict": _strict,
    "TorchScript": _torchscript,
}
