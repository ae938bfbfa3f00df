"""Inference with ONNX Runtime: the one way predictions, activations and latency are run. Needs neither onnx nor a framework."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from quantizers.adapter import Batch
from quantizers.errors import Unsupported
from quantizers.signature import Input, Layout, Signature, resolve

_ERRORS_ONLY = 3
SIGNATURE_KEY = "quantscope.signature"
"""Under which key an artefact's metadata holds the signature that was settled for it."""
Feeds = Mapping[str, NDArray[Any]]


class OnnxSession:
    """A loaded .onnx on the CPU with every graph optimization; meets `quantizers.adapter.Session`.

    Args:
        artefact: the file, or a model in memory.
        optimized: where to write the graph that the runtime makes of it.

    Raises:
        Unsupported: the model takes something else than numbers, or gives none.
    """

    def __init__(self, artefact: Path | bytes, threads: int = 1, optimized: Path | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        if optimized is not None:
            options.optimized_model_filepath = str(optimized)
        source = artefact if isinstance(artefact, bytes) else str(artefact)
        self._session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        self.signature = _signature(self._session)
        self._outputs = [port.name for port in self._session.get_outputs() if numpy_type(port.type) is not None]
        if not self._outputs:
            kinds = ", ".join(port.type for port in self._session.get_outputs())
            raise Unsupported(f"The model gives {kinds}, no numbers to compare.", "Cut off the part behind its last tensor.")

    def prepare(self, batch: Batch) -> Feeds:
        """The batch as the model's inputs by name.

        Raises:
            BadData: several samples at once for a model that takes one.
        """
        return self.signature.unpack(batch)

    def run(self, prepared: Feeds) -> Batch:
        """The output of one inference, [N, classes]; several outputs, and ones of more axes, are laid flat side by side."""
        values = self._session.run(self._outputs, dict(prepared))
        return np.concatenate([self._flat(value, prepared) for value in values], axis=1)

    def tensors(self, names: Sequence[str], prepared: Feeds) -> list[NDArray[Any]]:
        """The values of outputs of the model, by name."""
        values: list[NDArray[Any]] = self._session.run(list(names), dict(prepared))
        return values

    def _flat(self, value: NDArray[Any], prepared: Feeds) -> Batch:
        samples = len(next(iter(prepared.values()))) if self.signature.batched else 1
        return np.asarray(value, np.float32).reshape(samples, -1)


def _signature(session: onnxruntime.InferenceSession) -> Signature:
    """What the artefact's metadata says; without that, its inputs as it declares them, channels first, as in the zoo."""
    written = session.get_modelmeta().custom_metadata_map.get(SIGNATURE_KEY)
    if written is not None:
        return Signature.from_dict(json.loads(written))
    ports = session.get_inputs()
    inputs = tuple(Input(port.name, numpy_type(port.type) or port.type, resolve(port.name, port.shape, None)) for port in ports)
    return Signature(inputs, all(port.shape and not isinstance(port.shape[0], int) for port in ports), Layout.CHANNELS_FIRST)


def numpy_type(kind: str) -> str | None:
    """NumPy's name of a type that the runtime writes as "tensor(float)"; None for what is no tensor of numbers."""
    match = re.fullmatch(r"tensor\((float|double|bool|float16|u?int\d+)\)", kind)
    return None if match is None else {"float": "float32", "double": "float64"}.get(match[1], match[1])
