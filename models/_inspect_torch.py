"""Looks into a PyTorch checkpoint; runs in the limited process only. Nothing but tensors is unpickled."""

from __future__ import annotations

import pickle
from pathlib import Path

from models import _inspect_safetensors
from models.inspect_process import Request
from models.inspection import Inspection
from quantizers.errors import Unsupported


def inspect(path: Path, request: Request) -> Inspection:
    """As for .safetensors.

    Raises:
        BadModel: the weights belong to no architecture of the zoo.
        Unsupported: loading the file would run code of its own.
    """
    try:
        return _inspect_safetensors.inspect(path, request)
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise Unsupported(
            "The file holds more than tensors: loading it would run code of its own.",
            "Save the weights alone: safetensors.torch.save_file(model.state_dict(), …); "
            "or the whole model by torch.export.save, and trust that file.",
        ) from error
