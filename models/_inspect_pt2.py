"""Looks into a .pt2, an exported program; runs in the limited process only, and only where a person trusts the file."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import Node

from models import torch_file
from models._inspect_program import inspect_program
from models.float_model import Kind
from models.inspect_process import Request
from models.inspection import Inspection, Port
from quantizers.errors import BadModel
from quantizers.pytorch.graph import type_name


def inspect(path: Path, request: Request) -> Inspection:
    """Inputs, outputs and layers of the program.

    Raises:
        BadModel: it cannot be read, takes something else than tensors, or only batches of one size above 1.
    """
    exported = torch_file.exported(path)
    inputs = torch_file.placeholders(exported)
    if not inputs or any(not isinstance(node.meta.get("val"), Tensor) for node in inputs):
        raise BadModel("The program takes something else than tensors.", "Export a module that takes tensors alone.")
    (program, free), batch = torch_file.any_batch(exported), torch_file.fixed_batch(exported)
    if batch is not None and batch > 1 and not free:
        raise BadModel(
            f"The program was exported for batches of {batch}, and does not run on others.",
            'Export it with a free batch: dynamic_shapes=({0: torch.export.Dim("batch")},).',
        )
    return inspect_program(
        path,
        Kind.PT2,
        request,
        program,
        tuple(_port(node, free=free) for node in inputs),
        tuple(_outputs(exported, free=free)),
    )


def _port(node: Node, *, free: bool) -> Port:
    """`free` says that axis 0 is, whatever the program says."""
    value = node.meta["val"]
    sizes = [size if isinstance(size, int) else str(size) for size in value.shape]
    return Port(node.name, type_name(value.dtype), ("batch", *sizes[1:]) if free else tuple(sizes))


def _outputs(exported: ExportedProgram, *, free: bool) -> list[Port]:
    (last,) = (node for node in exported.graph.nodes if node.op == "output")
    names = set(exported.graph_signature.user_outputs)
    return [_port(node, free=free) for node in last.args[0] if isinstance(node, Node) and node.name in names]
