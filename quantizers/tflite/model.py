"""A converted model: the file, what became of its layers, and its computation by LiteRT."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from quantizers.adapter import Batch
from quantizers.errors import ConversionFailed, NothingQuantized
from quantizers.schema import Execution, Mode, QuantizedLayer, Technique
from quantizers.tflite.describe import Record
from quantizers.tflite.runtime import LiteRTSession, to_float

_BATCH = 100
"""Samples run at once. The results are the same bits as one by one (tested), and resizing is paid once."""


class TFLiteModel:
    """Meets `quantizers.adapter.QuantizedModel`."""

    execution = Execution.NATIVE
    execution_why = None

    def __init__(self, path: Path, records: Sequence[Record]) -> None:
        self.path = path
        self._records = records

    @cached_property
    def _session(self) -> LiteRTSession:
        return LiteRTSession(self.path)

    def layers(self) -> Sequence[QuantizedLayer]:
        return [record.layer for record in self._records]

    def predict(self, batch: Batch) -> Batch:
        session = self._session
        return np.concatenate([session.logits(session.run(session.prepare(part))) for part in _parts(batch)])

    def activations(self, batch: Batch) -> Mapping[str, Batch]:
        """The output of every weighted layer, after the activation function that TFLite fused into it."""
        session = LiteRTSession(self.path, every_tensor=True)
        parts: dict[str, list[Batch]] = {record.layer.name: [] for record in self._records}
        for part in _parts(batch):
            session.run(session.prepare(part))
            for record in self._records:
                output = record.layer.output
                params = None if output is None else output.params
                parts[record.layer.name].append(to_float(session.tensor(record.output_index), params))
        return {name: np.concatenate(values) for name, values in parts.items()}


def _parts(batch: Batch) -> Iterator[Batch]:
    for start in range(0, len(batch), _BATCH):
        yield batch[start : start + _BATCH]


def check(model: TFLiteModel, technique: Technique) -> None:
    """Makes sure that the converter did what it was asked for: it can return a float model without an error.

    Raises:
        NothingQuantized: every weight, or with static quantization every activation, is still float.
        ConversionFailed: the model has no weighted layer, or computes NaN or infinity.
    """
    layers = model.layers()
    if not layers:
        raise ConversionFailed("The converted model has no convolution and no dense layer.")
    if technique.mode is not Mode.FLOAT32 and not any(layer.quantized for layer in layers):
        reasons = " ".join(dict.fromkeys(f"{layer.name}: {layer.why_not}" for layer in layers))
        raise NothingQuantized("The converter left every layer in float.", reasons)
    if technique.mode is Mode.STATIC and all(layer.runs_in.startswith("hybrid") for layer in layers if layer.quantized):
        raise NothingQuantized("The converter left every activation in float.", "Check the calibration samples.")
    session = LiteRTSession(model.path)
    logits = session.logits(session.run(session.prepare(np.zeros(session.input_shape, np.float32))))
    if not np.isfinite(logits).all():
        raise ConversionFailed("The converted model computes NaN or infinity.", "Check the weights of the float model.")
