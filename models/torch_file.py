"""Loads a PyTorch program that a person brought and vouches for, and bare weights. Imported lazily.

Reading a `.pt2` can run code that lies in it, and a TorchScript program is code. Both are only loaded where a person trusts the
file, in the limited process that looks into it or in a trial's own.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node

from models.float_model import Kind
from quantizers.errors import BadModel
from quantizers.pytorch.canonical import reshape_views
from quantizers.pytorch.program import duplicate
from quantizers.signature import Layout, Signature

_aten = torch.ops.aten
_SHAPED = (_aten.view.default, _aten.reshape.default, _aten.expand.default, _aten._unsafe_view.default)
_AGREES = 1e-4


def load(path: Path, kind: Kind, signature: Signature) -> nn.Module:
    """The program as the backend takes every model: [N, …] float32 with channels first, or rows that hold all inputs.

    Raises:
        BadModel: it cannot be loaded.
    """
    (one, *_others) = signature.inputs
    program = script(path) if kind is Kind.TORCHSCRIPT else any_batch(exported(path))[0]
    if signature.packed:
        return _Packed(program, signature)
    channels_first = signature.layout is Layout.CHANNELS_FIRST or len(one.shape) < 3
    if kind is Kind.PT2 and channels_first and one.dtype == "float32":
        return program
    return _Single(program, channels_first=channels_first, dtype=getattr(torch, one.dtype))


class _Single(nn.Module):
    """A program behind its one input; such that TorchScript can compile it together with a program of its own."""

    def __init__(self, program: nn.Module, *, channels_first: bool, dtype: torch.dtype) -> None:
        super().__init__()
        self.program, self.channels_first, self.dtype = program, channels_first, dtype
        self.training = False  # an exported program is in eval mode, and refuses to be told so

    def forward(self, x: Tensor):  # type: ignore[no-untyped-def]  # whatever the program gives, which the compiler finds out
        if not self.channels_first:
            x = x.movedim(1, -1)
        # A single channel may lie in memory as if channels were last, which a program's `view` then fails on.
        return self.program(x.to(self.dtype).clone(memory_format=torch.contiguous_format))


class _Packed(nn.Module):
    """A program behind rows that hold all its inputs."""

    def __init__(self, program: nn.Module, signature: Signature) -> None:
        super().__init__()
        self.program, self._inputs, self._batched = program, signature.inputs, signature.batched
        self.training = False  # as above

    def forward(self, x: Tensor) -> Any:
        parts = zip(torch.split(x, [one.size for one in self._inputs], dim=1), self._inputs, strict=True)
        return self.program(*(part.reshape(self._shape(one.shape)).to(getattr(torch, one.dtype)) for part, one in parts))

    def _shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (-1, *shape[1:]) if self._batched else shape


def script(path: Path) -> Any:
    """A TorchScript program in eval mode; its graph says what shapes it was traced with, if it was."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated as a whole
        try:
            load: Any = torch.jit.load
            return load(path, map_location="cpu", _restore_shapes=True).eval()
        except Exception as error:  # a broken file makes torch raise whatever it likes
            raise _unreadable("TorchScript", error, "Save it again with torch.jit.save.") from error


def exported(path: Path) -> ExportedProgram:
    """What torch.export.save wrote."""
    try:
        return torch.export.load(path)
    except Exception as error:  # as above
        raise _unreadable(".pt2", error, "Save it again with torch.export.save, by PyTorch 2.7 or later.") from error


def _unreadable(kind: str, error: Exception, hint: str) -> BadModel:
    words = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return BadModel(f"PyTorch cannot read the {kind} file: {words[:300]}", hint)


def placeholders(program: ExportedProgram) -> list[Node]:
    """The inputs of a program in order, without its weights."""
    names = set(program.graph_signature.user_inputs)
    return [node for node in program.graph.nodes if node.op == "placeholder" and node.name in names]


def fixed_batch(program: ExportedProgram) -> int | None:
    """The batch that a program was exported for; None when its inputs have a free one, or none in common."""
    sizes = [next(iter(node.meta["val"].shape), None) for node in placeholders(program)]
    return sizes[0] if sizes and isinstance(sizes[0], int) and len(set(sizes)) == 1 else None


def any_batch(program: ExportedProgram) -> tuple[nn.Module, bool]:
    """The program as a module, and whether its fixed batch was freed: only where that changes no answer.

    torch.export fixes the batch of its example unless told otherwise. Most operations do not depend on it; those that give a
    tensor a shape are told the batch there is.
    """
    module, batch = program.module(check_guards=False), fixed_batch(program)
    assert isinstance(module, GraphModule)
    reshape_views(module)
    if batch is None:
        return module, False
    freed = _freed(duplicate(module), batch)
    return (freed, True) if _alike(module, freed, placeholders(program), batch) else (module, False)


def _freed(module: GraphModule, batch: int) -> GraphModule:
    graph = module.graph
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    with graph.inserting_after(inputs[-1]):
        size = graph.call_function(_aten.sym_size.int, (inputs[0], 0))
    for node in graph.nodes:
        if node.target in _SHAPED and list(node.meta["val"].shape[:1]) == [batch]:
            node.args = (node.args[0], [size, *node.meta["val"].shape[1:]])
    return GraphModule(module, graph)  # without the check that an input has the shape of the example


def _alike(module: nn.Module, freed: nn.Module, inputs: list[Node], batch: int) -> bool:
    """Whether one sample more changes no answer."""
    random = torch.Generator().manual_seed(0)
    values = [torch.rand(tuple(node.meta["val"].shape), generator=random).to(node.meta["val"].dtype) for node in inputs]
    try:
        with torch.no_grad():
            expected, found = module(*values), freed(*(torch.cat([value, value[:1]]) for value in values))
    except Exception:  # an operation that knows the batch raises whatever it likes
        return False
    pairs = [(one, other) for one, other in zip(_tensors(expected), _tensors(found), strict=True)]
    return all(
        other.shape == (batch + 1, *one.shape[1:]) and torch.allclose(torch.cat([one, one[:1]]), other, _AGREES, _AGREES, True)
        for one, other in pairs
    )


def _tensors(output: Any) -> list[Tensor]:
    return [leaf for leaf in torch.utils._pytree.tree_leaves(output) if isinstance(leaf, Tensor)]


class Weights(nn.Module):
    """Bare weights, with nothing that says what to compute with them."""

    def __init__(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        super().__init__()
        self._state = {name: torch.from_numpy(array) for name, array in tensors.items()}

    def state_dict(self, *_arguments: Any, **_named: Any) -> dict[str, Tensor]:  # type: ignore[override]  # without prefixes
        return dict(self._state)

    def forward(self, *_inputs: Tensor) -> Tensor:
        raise NotImplementedError("the file holds weights alone, and no network that they belong to")
