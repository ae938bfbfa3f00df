"""A model without a graph, as read back from its file of tensors: what runs of it, and its layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quantizers.adapter import Batch, Step, Trained
from quantizers.errors import Unsupported
from quantizers.pytorch.graph import type_name
from quantizers.pytorch.hooks import HookedModule, single
from quantizers.pytorch.model import to_tensor
from quantizers.pytorch.state_file import StateFile
from quantizers.schema import Execution, QuantizedLayer, QuantizedTensor, QuantParams, Role

BY_HOOKS = (
    "PyTorch finds no graph of this module, so no file of it could be run: its own code ran in float32, "
    "around rounded weights and inputs of its layers."
)
WEIGHTS_ONLY = "only the weights were looked at: PyTorch cannot run this model"


@dataclass(frozen=True, eq=False)
class BareLayer:
    """A layer as its module or, where nothing runs, its name and shape tell.

    Attributes:
        op: the class of the module; of a bare tensor, its number of axes.
        tensor: the name of its weight among the model's tensors; None where the weight is computed while running.
        weight: as the module has it, output channels first.
        bias: the name of its bias; None where it has none.
    """

    name: str
    op: str
    tensor: str | None
    weight: NDArray[np.float32]
    bias: str | None

    @property
    def dense(self) -> bool:
        return self.weight.ndim == 2


@dataclass(frozen=True, eq=False)
class BareModel:
    """Meets `quantizers.adapter.QuantizedModel`.

    Attributes:
        hooked: the module with the numbers of the file; None when only the weights are known, which `not_run` says.
        steps: why there is no graph, for a person to read.
    """

    path: Path
    described: tuple[QuantizedLayer, ...]
    hooked: HookedModule | None
    steps: tuple[Step, ...]
    execution: Execution = Execution.SIMULATED
    training: Trained | None = None

    @property
    def execution_why(self) -> str | None:
        return self.not_run or BY_HOOKS

    @property
    def not_run(self) -> str | None:
        """See `quantizers.adapter.MayNotRun`."""
        return WEIGHTS_ONLY if self.hooked is None else None

    def layers(self) -> tuple[QuantizedLayer, ...]:
        return self.described

    def predict(self, batch: Batch) -> Batch:
        logits: Batch = self._runs().run(to_tensor(batch)).float().numpy()
        return logits

    def activations(self, batch: Batch) -> Mapping[str, Batch]:
        """Of the layers that hand on as many values of every sample; a way that depends on the sample leaves out others."""
        module = self._runs()
        records = [module.record(one) for one in single(to_tensor(batch))]
        shapes = {name: {record[name].shape if name in record else None for record in records} for name in records[0]}
        alike = [name for name, found in shapes.items() if len(found) == 1]
        return {name: np.concatenate([record[name] for record in records]) for name in alike}

    def _runs(self) -> HookedModule:
        if self.hooked is None:
            raise Unsupported(f"There is no answer: {WEIGHTS_ONLY}.")
        return self.hooked


def describe_bare(
    layers: Mapping[str, BareLayer], kept: StateFile, reasons: Mapping[str, str | None], *, runs: bool, dynamic: bool
) -> tuple[QuantizedLayer, ...]:
    """The layers of a file, every code, scale and zero point the stored one.

    Args:
        reasons: why a layer was not quantized, by name.
        runs: whether the inputs and outputs of layers are known.
        dynamic: whether layers find the range of their input while they run.
    """
    found = []
    for name, layer in layers.items():
        rounded = reasons[name] is None
        inputs = (_input(name, kept.inputs.get(name), dynamic=dynamic and rounded),) if runs else ()
        output = QuantizedTensor(f"{name} output", name, Role.OUTPUT, "float32") if runs else None
        found.append(
            QuantizedLayer(
                name=name,
                native_name=name,
                op=layer.op,
                quantized=rounded,
                weight=_weight(layer, kept),
                why_not=reasons[name],
                bias=_bias(layer, kept),
                inputs=inputs,
                output=output,
            )
        )
    return tuple(found)


def _weight(layer: BareLayer, kept: StateFile) -> QuantizedTensor:
    if layer.tensor is not None and layer.tensor in kept.weights:
        codes, params = kept.weights[layer.tensor]
        reference = layer.weight.reshape(codes.shape)
        return QuantizedTensor(layer.tensor, layer.name, Role.WEIGHT, params.dtype, params, codes, reference)
    stored = torch.from_numpy(layer.weight) if layer.tensor is None else kept.tensors[layer.tensor]
    return QuantizedTensor(
        layer.tensor or f"{layer.name}.weight",
        layer.name,
        Role.WEIGHT,
        type_name(stored.dtype),
        None,
        _array(stored),
        layer.weight,
    )


def _bias(layer: BareLayer, kept: StateFile) -> QuantizedTensor | None:
    if layer.bias is None:
        return None
    stored = kept.tensors[layer.bias]
    values = _array(stored)
    return QuantizedTensor(layer.bias, layer.name, Role.BIAS, type_name(stored.dtype), None, values, values.astype(np.float32))


def _input(name: str, params: QuantParams | None, *, dynamic: bool) -> QuantizedTensor:
    dtype = "uint8 (dynamic)" if dynamic else params.dtype if params else "float32"
    return QuantizedTensor(f"{name} input", name, Role.INPUT, dtype, params)


def _array(tensor: Tensor) -> NDArray[np.generic]:
    """For NumPy, which knows no bfloat16: that becomes float32, with the same values."""
    values: NDArray[np.generic] = (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy().copy()
    return values
