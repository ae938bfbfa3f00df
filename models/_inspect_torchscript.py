"""Looks into a TorchScript program; runs in the limited process only, and only where a person trusts the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from models import torch_file
from models._inspect_program import inspect_program
from models.float_model import Kind
from models.inspect_process import Request
from models.inspection import Inspection, Port
from quantizers.errors import BadModel
from quantizers.pytorch.graph import type_name

_TENSOR = "TensorType"


def inspect(path: Path, request: Request) -> Inspection:
    """Inputs and layers of the program; the shapes of inputs are those it was traced with, if it was.

    Raises:
        BadModel: it cannot be read, or takes something else than tensors.
    """
    program = torch_file.script(path)
    _, *inputs = program.graph.inputs()
    if not inputs or any(one.type().kind() != _TENSOR for one in inputs):
        raise BadModel("The program takes something else than tensors.", "Script or trace a module that takes tensors alone.")
    ports = tuple(_port(one) for one in inputs)
    return inspect_program(path, Kind.TORCHSCRIPT, request, program, ports, ())


def _port(value: Any) -> Port:
    sizes, dtype = value.type().sizes(), value.type().dtype()
    name = value.debugName().rpartition(".")[0] or value.debugName()
    shape = None if sizes is None else ("batch", *sizes[1:]) if sizes else ()
    return Port(name, type_name(dtype) if dtype else "float32", shape)
