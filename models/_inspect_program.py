"""What there is to say of a trusted PyTorch program, by running it; in the limited process only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from models import torch_file
from models.entry import signature_of
from models.float_model import Kind
from models.inspect_process import Request
from models.inspection import Inspection, Port, plain_tensor
from quantizers.errors import BadData, BadModel, Unsupported
from quantizers.pytorch.graph import is_dequantize, layer_name, layers, type_name
from quantizers.pytorch.ladder import Climbed, climb, first_tensor
from quantizers.pytorch.model import to_tensor
from quantizers.schema import Backend
from quantizers.signature import Signature

_AGREES = 1e-3
_QUANTIZED = "The program holds quantized weights: bring the float one it was made from."


def inspect_program(
    path: Path, kind: Kind, request: Request, program: nn.Module, inputs: tuple[Port, ...], outputs: tuple[Port, ...]
) -> Inspection:
    """The layers that the ladder finds, and whether samples can run together; less where a shape is not known yet.

    Raises:
        BadModel: the program does not run on inputs of these shapes.
    """
    state = {name: value for name, value in program.state_dict().items() if isinstance(value, torch.Tensor)}
    parameters = sum(value.numel() for value in state.values())
    tensors = [
        plain_tensor(name, type_name(value.dtype), value.shape, value.numel() * value.element_size())
        for name, value in state.items()
    ]
    facts = {"tensors": tensors}
    try:
        signature = signature_of(inputs, request.shapes, None, batched=True)
    except (BadData, Unsupported):
        return Inspection(inputs, outputs, parameters, facts=facts)
    module = torch_file.load(path, kind, signature)
    batched, size = _run(module, signature)
    climbed = climb(module, to_tensor(np.zeros((2, *signature.sample_shape), np.float32)))
    quantized = climbed.graph is not None and any(is_dequantize(node) for node in climbed.graph.graph.nodes)
    return Inspection(
        inputs=inputs,
        outputs=outputs,
        parameters=parameters,
        layers=_layers(climbed),
        quantized=quantized,
        backends={Backend.PYTORCH: _QUANTIZED} if quantized else {},
        batched=batched,
        output_size=size,
        facts=facts,
        notes=tuple(f"{step.name}: {step.outcome}" for step in climbed.steps),
    )


def _run(module: nn.Module, signature: Signature) -> tuple[bool, int]:
    """Whether two samples run together with the result of each alone, and the length of a sample's output."""
    samples = to_tensor(np.random.default_rng(0).random((2, *signature.sample_shape), np.float32))
    try:
        alone = _output(module, samples[:1])
    except Exception as error:  # the program is a stranger's, and raises whatever it likes
        words = next((line.strip() for line in str(error).splitlines()[::-1] if line.strip()), type(error).__name__)
        taken = ", ".join(f"{one.name}={'x'.join(map(str, one.shape))}" for one in signature.inputs)
        what = f"The program does not run with {taken}: {words[:300]}"
        raise BadModel(what, "Give the shape it was made for, e.g. x=1x3x224x224.") from error
    try:
        together = _output(module, samples)
    except Exception:  # as above
        return False, alone.numel()
    same = len(together) == 2 and torch.allclose(together[0].flatten(), alone.flatten(), _AGREES, _AGREES, equal_nan=True)
    return same, alone.numel()


def _output(module: nn.Module, samples: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return first_tensor(module(samples)).float()


def _layers(climbed: Climbed) -> tuple[str, ...]:
    if climbed.graph is not None:
        return tuple(layer_name(layer) for layer in layers(climbed.graph.graph))
    return tuple(climbed.hooked.layers) if climbed.hooked else ()
