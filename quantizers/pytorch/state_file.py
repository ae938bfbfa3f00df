"""The file of a model without a graph: every tensor of it in one .safetensors, weights of layers rounded, and nothing to run.

Codes of 4, 2 and 1 bits are packed as in a `.pt2` (`packing`), beside their scales and, where codes lie apart from zero, zero
points. What types and shapes do not say (the grids of weights, and those of the layers' inputs) is in the file's header.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from quantizers.numerics import dequantize
from quantizers.pytorch.packing import pack, unpack
from quantizers.pytorch.weights import Rounded
from quantizers.schema import QuantParams

SUFFIX = ".safetensors"
_BITS = {"int1": 1, "int2": 2, "int4": 4, "int8": 8}
_WEIGHTS, _INPUTS = "weights", "inputs"
_SCALE, _ZERO_POINT = ".scale", ".zero_point"


@dataclass(frozen=True, eq=False)
class StateFile:
    """What a file holds.

    Attributes:
        tensors: those that are no integers standing for other numbers, by name.
        weights: codes and grid of the others, by name.
        shapes: the shapes of the weights that `weights` stand for; codes in groups have one row a channel.
        inputs: the grids that layers round their inputs to, by layer name.
    """

    tensors: Mapping[str, Tensor]
    weights: Mapping[str, Rounded]
    shapes: Mapping[str, tuple[int, ...]]
    inputs: Mapping[str, QuantParams]

    def values(self, name: str) -> Tensor:
        """The float32 numbers that a weight of the file stands for."""
        if name not in self.weights:
            return self.tensors[name].float()
        return torch.from_numpy(dequantize(*self.weights[name]).astype(np.float32).reshape(self.shapes[name]))


def write(tensors: Mapping[str, Tensor], weights: Mapping[str, Rounded], inputs: Mapping[str, QuantParams], path: Path) -> None:
    """Writes a model's tensors, with `weights` in the place of the float ones of these names."""
    from safetensors.torch import save_file

    kept = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items() if name not in weights}
    grids: dict[str, Any] = {}
    for name, (codes, params) in weights.items():
        bits = _BITS[params.dtype]
        packed = codes.astype(np.int8) if bits == 8 else pack(codes, bits)
        kept[name] = torch.from_numpy(np.ascontiguousarray(packed))
        kept[name + _SCALE] = torch.from_numpy(params.scale.astype(np.float32))
        if params.zero_point.any():
            kept[name + _ZERO_POINT] = torch.from_numpy(params.zero_point.astype(np.int8))
        grids[name] = _described(params) | {"shape": list(tensors[name].shape), "codes": list(codes.shape)}
    read = {
        name: _described(params) | {"scale": float(params.scale[0]), "zero_point": int(params.zero_point[0])}
        for name, params in inputs.items()
    }
    save_file(kept, path, metadata={_WEIGHTS: json.dumps(grids), _INPUTS: json.dumps(read)})


def read(path: Path) -> StateFile:
    """Reads what `write` wrote: a file is data, and nothing in it is run."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        header = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    weights, shapes = {}, {}
    for name, grid in json.loads(header[_WEIGHTS]).items():
        packed, scale = tensors.pop(name), tensors.pop(name + _SCALE).numpy()
        zero_point = tensors.pop(name + _ZERO_POINT, torch.zeros(1, dtype=torch.int8)).numpy()
        bits = _BITS[grid["dtype"]]
        codes = packed if bits == 8 else unpack(packed, bits, grid["codes"])
        weights[name] = codes.numpy(), _params(grid, scale, zero_point)
        shapes[name] = tuple(grid["shape"])
    inputs = {
        name: _params(grid, np.array([grid["scale"]]), np.array([grid["zero_point"]]))
        for name, grid in json.loads(header[_INPUTS]).items()
    }
    return StateFile(tensors, weights, shapes, inputs)


def _described(params: QuantParams) -> dict[str, Any]:
    return {name: getattr(params, name) for name in ("dtype", "qmin", "qmax", "axis", "group_size")}


def _params(grid: Mapping[str, Any], scale: np.ndarray[Any, Any], zero_point: np.ndarray[Any, Any]) -> QuantParams:
    fixed = {name: grid[name] for name in ("dtype", "qmin", "qmax", "axis", "group_size")}
    return QuantParams(scale=scale, zero_point=zero_point, **fixed)
