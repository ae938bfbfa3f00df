"""Looks into a file of bare weights; runs in the limited process only."""

from __future__ import annotations

from pathlib import Path

from models import zoo
from models.inspect_process import Request
from models.inspection import Inspection
from models.state_dict import read, recognise


def inspect(path: Path, request: Request) -> Inspection:
    """The architecture that the weights belong to, and that they are all there and finite.

    Raises:
        BadModel: they belong to none.
    """
    architecture = recognise(path, request.architecture)
    read(path, architecture)
    design = zoo.design(architecture)
    return Inspection((), (), design.parameters, design.layer_names, facts={"architecture": architecture})
