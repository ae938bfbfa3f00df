"""A quantized model as read back from its `.pt2`: what is shipped, not what was in memory when it was made.

`predict` runs the Q/DQ program, the reference semantics of the file. The lowered int8 kernels agree with it to rounding of
single codes (`lowering.int8_layers` checks that on every model) and differ from CPU to CPU; the program does not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch.fx import GraphModule, Interpreter, Node

from quantizers.adapter import Batch, Step, Trained
from quantizers.pytorch.equalize import Scales
from quantizers.pytorch.graph import handed_on, input_type, is_dynamic, is_quantize, layer_name, layers
from quantizers.schema import Execution, QuantizedLayer

_MINIBATCH = 256
_ONE = np.ones(1, np.float32)
_Result = TypeVar("_Result")


@dataclass(frozen=True, eq=False)
class TorchModel:
    """Meets `quantizers.adapter.QuantizedModel`.

    Attributes:
        program: the artefact as loaded.
        observed: the program whose layers `activations` records: the artefact itself, or for a float32 artefact that keeps
            its batch norms a folded copy, so that every technique's layers compare like with like.
        scales: what cross-layer equalization divided each channel of a layer's output by; `activations` multiplies it back,
            so that outputs compare with the float model's. By layer name; layers left alone are missing.
        plain: the same technique without the improvements that were asked for; None when there were none.
        steps: how the module became a graph, for a person to read.
    """

    path: Path
    execution: Execution
    execution_why: str | None
    program: GraphModule
    observed: GraphModule
    described: tuple[QuantizedLayer, ...]
    training: Trained | None = None
    scales: Scales = field(default_factory=dict)
    plain: TorchModel | None = None
    steps: tuple[Step, ...] = ()

    def layers(self) -> Sequence[QuantizedLayer]:
        return self.described

    def predict(self, batch: Batch) -> Batch:
        return np.concatenate(self._in_minibatches(batch, lambda x: self.program(x).float().numpy()))

    def activations(self, batch: Batch) -> Mapping[str, Batch]:
        parts = self._in_minibatches(batch, _Recorder(self.observed).record)
        return {name: np.concatenate([part[name] for part in parts]) * self.scales.get(name, _ONE) for name in parts[0]}

    def beside(self, plain: TorchModel) -> TorchModel:
        """This model with `plain` to compare it with."""
        return replace(self, plain=plain)

    def _in_minibatches(self, batch: Batch, run: Callable[[torch.Tensor], _Result]) -> list[_Result]:
        """A dynamic range spans the whole batch, so samples would change each other's result: those run one at a time."""
        dynamic = any(is_quantize(node) and is_dynamic(node) for node in self.program.graph.nodes)
        size = 1 if dynamic else _MINIBATCH
        with torch.inference_mode():
            starts = range(0, len(batch), size)
            return [run(to_tensor(batch[start : start + size]).to(input_type(self.program))) for start in starts]


class _Recorder(Interpreter):
    """Runs a program node by node and keeps what each layer hands on."""

    def __init__(self, program: GraphModule) -> None:
        super().__init__(program)
        self._wanted = {handed_on(layer): layer_name(layer) for layer in layers(program.graph)}
        self._found: dict[str, Batch] = {}

    def run_node(self, n: Node) -> Any:
        value = super().run_node(n)
        if n in self._wanted:
            self._found[self._wanted[n]] = channels_last(value.float().numpy())
        return value

    def record(self, x: torch.Tensor) -> dict[str, Batch]:
        self.run(x)
        return dict(self._found)


def to_tensor(batch: Batch) -> torch.Tensor:
    """[N, …, C] to a contiguous [N, C, …]; single numbers stay as they are."""
    moved = np.moveaxis(batch, -1, 1) if batch.ndim > 1 else batch
    return torch.from_numpy(np.ascontiguousarray(moved, np.float32))


def channels_last(x: Batch) -> Batch:
    """[N, C, …] to [N, …, C]; vectors stay as they are."""
    return np.ascontiguousarray(np.moveaxis(x, 1, -1))
