"""Reads a `.pt2` by hand, for the tests: from the exported program's signature and state, sharing no code with the adapter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram
from torch.fx import Node

LAYERS = ("aten.conv2d", "aten.linear")
ACTIVATIONS = ("aten.relu.", "aten.relu6.", "aten.hardtanh.")


@dataclass(frozen=True)
class Grid:
    """One quantize or dequantize operation; `scale` None stands for a range measured while running."""

    dtype: str
    scale: np.ndarray | None = None
    zero_point: np.ndarray | None = None
    axis: int | None = None
    qmin: int | None = None
    qmax: int | None = None
    group_size: int | None = None


FLOAT = Grid("float32")


@dataclass(frozen=True)
class LayerOnDisk:
    op: str
    codes: np.ndarray
    weight: Grid
    bias: np.ndarray | None
    source: Grid
    result: Grid


def load(path: Path) -> ExportedProgram:
    import torchao.quantization.pt2e  # noqa: F401  # brings the Q/DQ operations that a quantized file is made of

    import quantizers.pytorch.packing  # noqa: F401  # registers the operation that reads packed weights

    return torch.export.load(path)


def read(path: Path) -> list[LayerOnDisk]:
    program = load(path)
    return [_layer(program, node) for node in program.graph.nodes if str(node.target).startswith(LAYERS)]


def _layer(program: ExportedProgram, node: Node) -> LayerOnDisk:
    source, weight, *rest = node.args
    codes, grid = _weight(program, weight)
    bias = _value(program, rest[0]) if rest and rest[0] is not None else None
    return LayerOnDisk(
        op=_op(node).removesuffix(".default"),
        codes=codes,
        weight=grid,
        bias=bias,
        source=_grid(program, source) if _op(source).startswith("quantized_decomposed.dequantize") else FLOAT,
        result=_result(program, node),
    )


def _weight(program: ExportedProgram, node: Node) -> tuple[np.ndarray, Grid]:
    if _op(node).startswith("quantized_decomposed.dequantize"):
        return _value(program, node.args[0]), _grid(program, node)
    if _op(node).startswith("quantscope.dequantize_packed"):
        return _packed(program, node)
    if _op(node).startswith("aten.to."):
        node = node.args[0]
    return _value(program, node), Grid(str(_tensor(program, node).dtype).removeprefix("torch."))


def _packed(program: ExportedProgram, node: Node) -> tuple[np.ndarray, Grid]:
    """Bit by bit, the lowest of each byte first."""
    packed, scale, zero, bits, group_size, shape = node.args
    digits = np.unpackbits(_value(program, packed), bitorder="little").reshape(-1, bits)
    unsigned = (digits * 2 ** np.arange(bits)).sum(axis=1)[: int(np.prod(shape))].astype(int)
    highest = 2 ** (bits - 1) - 1
    codes = np.where(unsigned == 1, 1, -1) if bits == 1 else unsigned - highest - 1
    scales = _value(program, scale)
    grouped = scales.shape[1] > 1
    return codes.reshape((shape[0], -1) if grouped else shape), Grid(
        f"int{bits}",
        scales.ravel(),
        np.zeros(scales.size) if zero is None else _value(program, zero).ravel(),
        None if grouped else 0,
        -highest - 1 if zero is not None else -max(highest, 1),
        max(highest, 1),
        group_size if grouped else None,
    )


def _result(program: ExportedProgram, node: Node) -> Grid:
    readers = list(node.users)
    if len(readers) == 1 and _op(readers[0]).startswith(ACTIVATIONS):
        readers = list(readers[0].users)
    quantizers = [reader for reader in readers if _op(reader).startswith("quantized_decomposed.quantize")]
    grid = _grid(program, quantizers[0]) if quantizers else FLOAT
    return grid if grid.scale is not None else FLOAT


def _grid(program: ExportedProgram, node: Node) -> Grid:
    arguments = {argument.name: node.args[i] for i, argument in enumerate(node.target._schema.arguments) if i < len(node.args)}
    if "scales" in arguments:
        scale, zero_point = _value(program, arguments["scales"]), _value(program, arguments["zero_points"])
    elif isinstance(arguments["scale"], Node):
        return Grid(f"{_type(arguments)} (dynamic)")
    else:
        scale, zero_point = np.array([arguments["scale"]]), np.array([arguments["zero_point"]])
    return Grid(_type(arguments), scale, zero_point, arguments.get("axis"), arguments["quant_min"], arguments["quant_max"])


def _type(arguments: dict[str, Any]) -> str:
    return {torch.int8: "int8", torch.uint8: "uint8", torch.int16: "int16"}[arguments["dtype"]]


def _op(node: Any) -> str:
    return str(getattr(node, "target", ""))


def _value(program: ExportedProgram, placeholder: Node) -> np.ndarray:
    tensor = _tensor(program, placeholder)
    return (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy()


def _tensor(program: ExportedProgram, placeholder: Node) -> torch.Tensor:
    signature = program.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    return program.state_dict[names[placeholder.name]].detach()


def sqnr_db(reference: np.ndarray, estimate: np.ndarray) -> float:
    """10·log10(Σx² / Σ(x−x̂)²)."""
    noise = float(((reference.astype(np.float64) - estimate) ** 2).sum())
    return float("inf") if noise == 0 else float(10 * np.log10((reference.astype(np.float64) ** 2).sum() / noise))
