"""From any module to what can be done with it: several ways, the best first, until one gives what the module itself computes.

The best is a graph of operations, which there are three ways to. Without one, hooks on the module's layers simulate; of a
module that does not run, only the weights are left. Which way was taken, and why not a better one, is kept as steps for a
person to read. A graph is believed only when it agrees with the module on samples it was not traced with: tracing can freeze a
branch that depends on the data.
"""

from __future__ import annotations

import warnings
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx import GraphModule

from quantizers.adapter import Step
from quantizers.errors import ConversionFailed
from quantizers.pytorch.canonical import canonical, reshape_views
from quantizers.pytorch.graph import layers
from quantizers.pytorch.hooks import HookedModule
from quantizers.pytorch.program import export

_AGREES = 1e-3
"""How far a graph's output may lie from the module's, as a share of the largest value."""
_TRIED = 3
"""Samples to compare on: another number than the graph was traced with."""
_LONGEST = 300


@dataclass(frozen=True, eq=False)
class Climbed:
    """How far a module got.

    Attributes:
        graph: of the module, for any batch size; None when there is none.
        hooked: the module with hooks on its layers, where there is no graph and it runs; None beside both: weights alone.
    """

    module: torch.nn.Module
    graph: ExportedProgram | None
    hooked: HookedModule | None
    steps: tuple[Step, ...]


def climb(module: torch.nn.Module, sample: torch.Tensor) -> Climbed:
    """Takes the best way there is. The module is changed for good: computed weights are put in the place of what they are
    computed from, and it gives one tensor [N, values], the first of several.

    Args:
        sample: two samples [2, …].
    """
    steps = [*_bake(module), *_single_output(module, sample[:1])]
    if why := _fails(module, sample):
        steps.append(Step("graph", f"left out: the module does not run on {len(sample)} samples at once: {why}"))
    else:
        graph, tried = _graph(module, sample)
        steps += tried
        if graph is not None:
            return Climbed(module, graph, None, tuple(steps))
    hooked, why = _hooks(module, sample)
    steps.append(Step("hooks", why or "taken: the module runs as it is, a sample at a time, and hooks round what layers read"))
    if hooked is None:
        steps.append(Step("weights alone", "taken: they are rounded and compared, and nothing runs"))
    return Climbed(module, None, hooked, tuple(steps))


def _graph(module: torch.nn.Module, sample: torch.Tensor) -> tuple[ExportedProgram | None, list[Step]]:
    steps = []
    for name, way in _WAYS.items():
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "The tensor attributes", UserWarning)  # an LSTM keeps aliases of its weights
                exported = canonical(way(module, sample))
            outcome = _difference(module, exported, sample)
        except Exception as error:  # a module may hold anything, and torch raises whatever it likes
            outcome = _words(error)
        steps.append(Step(name, outcome or "taken: the graph computes what the module does"))
        if outcome is None:
            _name_layers(exported)
            return exported, steps
    return None, steps


def _hooks(module: torch.nn.Module, sample: torch.Tensor) -> tuple[HookedModule | None, str | None]:
    """The module with hooks, its layers in the order of their calls; or why that is of no use."""
    hooked = HookedModule(module)
    one = _noise(1, sample)
    try:
        hooked.record(one)
        answers = [hooked.run(one) for _ in range(2)]
    except Exception as error:  # as above
        return None, f"left out: the module does not run: {_words(error)}"
    if not torch.allclose(answers[0], answers[1], equal_nan=True):
        return None, "left out: the module answers the same sample differently each time"
    if not hooked.called:
        return None, "left out: it calls no convolution or dense layer that is a module"
    hooked.sort()
    return hooked, None


def _bake(module: torch.nn.Module) -> list[Step]:
    """Weight norm and its like compute a weight at every call, from values that no longer change."""
    from torch.nn.utils import parametrize

    baked = [part for part in module.modules() if parametrize.is_parametrized(part)]
    for part in baked:
        for name in list(part.parametrizations):  # type: ignore[arg-type]  # torch types it as any module
            parametrize.remove_parametrizations(part, name, leave_parametrized=True)
    outcome = f"{len(baked)} computed at every call: the results take their place"
    return [Step("weights", outcome)] if baked else []


def _single_output(module: torch.nn.Module, one: torch.Tensor) -> list[Step]:
    """Makes a module that runs give one tensor [N, values]."""
    try:
        with torch.no_grad():
            output = module(one)
    except Exception:  # it is run again, and the reason kept
        return []
    if isinstance(output, torch.Tensor) and output.ndim == 2:
        return []
    first_tensor(output)
    module.register_forward_hook(_flatten)
    if isinstance(output, torch.Tensor):
        return [Step("outputs", f"The module gives tensors of {output.ndim} axes: the values of a sample are laid in a row.")]
    return [Step("outputs", f"The module gives a {type(output).__name__}: the first tensor in it is what is compared.")]


def _flatten(_module: torch.nn.Module, _inputs: Any, outputs: Any) -> torch.Tensor:
    tensor = first_tensor(outputs)
    return tensor.flatten(1) if tensor.ndim > 1 else tensor.unsqueeze(-1)


def _fails(module: torch.nn.Module, sample: torch.Tensor) -> str | None:
    """Why a module does not run; None when it does."""
    try:
        with torch.no_grad():
            module(sample)
    except Exception as error:  # as above
        return _words(error)
    return None


def first_tensor(output: Any) -> torch.Tensor:
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
    """Compiled from source where that is possible, so that branches stay."""
    from torch._export.converter import TS2EPConverter

    after, module._forward_hooks = module._forward_hooks, OrderedDict()  # hooks cannot be compiled: the graph gets them
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.jit is deprecated as a whole
            converted: Any = TS2EPConverter(_compiled(module, sample), (sample,)).convert()
    finally:
        module._forward_hooks = after
    program = converted.module()
    reshape_views(program)
    parameters = {name for name, _ in module.named_parameters()}
    for name, value in list(program.named_buffers()):
        if name in parameters:  # which the converter has made buffers
            owner, _, attribute = name.rpartition(".")
            delattr(program.get_submodule(owner), attribute)
            program.get_submodule(owner).register_parameter(attribute, torch.nn.Parameter(value.detach(), requires_grad=False))
    for hook in after.values():
        program.register_forward_hook(hook)
    return export(program, sample)


def _compiled(module: torch.nn.Module, sample: torch.Tensor) -> Any:
    try:
        return torch.jit.script(module)
    except Exception:  # of what stands around a compiled program there may be no source to compile
        trace: Any = torch.jit.trace
        return trace(module, (sample,), check_trace=False)


def _difference(module: torch.nn.Module, exported: ExportedProgram, sample: torch.Tensor) -> str | None:
    """What the graph computes otherwise than the module; None when it agrees."""
    noise = _noise(_TRIED, sample)
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


def _noise(n: int, sample: torch.Tensor) -> torch.Tensor:
    return torch.rand((n, *sample.shape[1:]), generator=torch.Generator().manual_seed(0))


def _name_layers(exported: ExportedProgram) -> None:
    """Gives every layer a name of its own: its module's, or where no module is known, its weight's. Calls of one module are
    numbered: "first", "first#2".
    """
    signature = exported.graph_signature
    tensors = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    calls: Counter[str] = Counter()
    for layer in layers(exported.graph):
        weight: Any = layer.args[1]
        *outer, (key, (path, kind)) = layer.meta["nn_module_stack"].items()
        name = path or tensors.get(weight.name, "").removesuffix(".weight") or layer.name
        calls[name] += 1
        numbered = f"{name}#{calls[name]}" if calls[name] > 1 else name
        layer.meta["nn_module_stack"] = {**dict(outer), key: (numbered, kind)}


def _words(error: Exception) -> str:
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first}"[:_LONGEST]


_WAYS: Mapping[str, Callable[[torch.nn.Module, torch.Tensor], ExportedProgram]] = {
    "torch.export": export,
    "torch.export, strict": _strict,
    "TorchScript": _torchscript,
}
