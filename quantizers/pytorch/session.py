"""What latency times: an artefact opened once, lowered for each batch size it is asked for, outside the clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch.fx import GraphModule

from quantizers.adapter import Batch
from quantizers.errors import Unsupported
from quantizers.pytorch.graph import input_type, is_dequantize, is_packed
from quantizers.pytorch.lowering import lower, simulation
from quantizers.pytorch.model import to_tensor
from quantizers.pytorch.program import load_program
from quantizers.pytorch.state_file import SUFFIX

Run = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, eq=False)
class Prepared:
    """A batch as PyTorch takes it, and the graph that was made for its size."""

    x: torch.Tensor
    run: Run


@dataclass(frozen=True, eq=False)
class TorchSession:
    """Meets `quantizers.adapter.Session`."""

    program: GraphModule
    lowered: bool
    _runs: dict[int, Run] = field(default_factory=dict)

    def prepare(self, batch: Batch) -> Prepared:
        x = to_tensor(batch).to(input_type(self.program))
        if len(x) not in self._runs:
            self._runs[len(x)] = self._lower(x) if self.lowered else self.program
        return Prepared(x, self._runs[len(x)])

    def run(self, prepared: Prepared) -> Batch:
        with torch.inference_mode():
            logits: Batch = prepared.run(prepared.x).float().numpy()
        return logits

    def _lower(self, x: torch.Tensor) -> Run:
        if why := simulation(self.program):
            raise Unsupported(f"The latency of this artefact would be that of a simulation. {why}")
        try:
            lowered = lower(self.program, x)
        except Exception as error:
            raise Unsupported(f"This PyTorch cannot lower the artefact: {type(error).__name__}: {error}") from error
        if not lowered.int8 and any(is_dequantize(node) for node in self.program.graph.nodes):
            raise Unsupported("PyTorch computes this artefact in float32: its latency would be that of a simulation.")
        return lowered.run


def open_session(artefact: Path, *, lowered: bool, threads: int) -> TorchSession:
    """Loads an artefact of this adapter. Quantized artefacts run lowered, whatever `lowered` says.

    Args:
        threads: for the whole process.

    Raises:
        Unsupported: it holds tensors without a graph.
    """
    if artefact.suffix == SUFFIX:
        raise Unsupported("The artefact holds tensors and no graph: there is nothing to run and to time.")
    torch.set_num_threads(threads)
    program = load_program(artefact)
    quantized = any(is_dequantize(node) or is_packed(node) for node in program.graph.nodes)
    return TorchSession(program, lowered or quantized)
