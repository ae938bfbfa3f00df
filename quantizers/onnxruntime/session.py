"""Inference with ONNX Runtime: the one way predictions, activations and latency are run. Needs neither onnx nor a framework."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from quantizers.adapter import Batch

_ERRORS_ONLY = 3


class OnnxSession:
    """A loaded .onnx on the CPU with every graph optimization; meets `quantizers.adapter.Session`.

    Args:
        artefact: the file, or a model in memory.
        optimized: where to write the graph that the runtime makes of it.
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
        self._input = self._session.get_inputs()[0].name
        self._output = self._session.get_outputs()[0].name

    def prepare(self, batch: Batch) -> NDArray[np.float32]:
        return channels_first(batch)

    def run(self, prepared: NDArray[np.float32]) -> Batch:
        """Logits [N, classes] of one inference."""
        logits: Batch = self._session.run([self._output], {self._input: prepared})[0]
        return logits

    def tensors(self, names: Sequence[str], prepared: NDArray[np.float32]) -> list[NDArray[Any]]:
        """The values of outputs of the model, by name."""
        values: list[NDArray[Any]] = self._session.run(list(names), {self._input: prepared})
        return values


def channels_first(batch: Batch) -> NDArray[np.float32]:
    """[N, …, C] to a contiguous [N, C, …]."""
    return np.ascontiguousarray(np.moveaxis(batch, -1, 1), np.float32)
