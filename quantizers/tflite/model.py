"""A converted model: the file, what became of its layers, and its computation by LiteRT."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from quantizers.adapter import Batch, Step, Trained
from quantizers.errors import ConversionFailed, NothingQuantized
from quantizers.numerics import tensor_error, to_float
from quantizers.schema import Execution, Mode, QuantizedLayer, Technique
from quantizers.tflite import logits, simulate
from quantizers.tflite.describe import Kernels, Record, describe
from quantizers.tflite.logits import without_softmax
from quantizers.tflite.runtime import LiteRTSession

BATCH = 100
"""Samples run at once, so that resizing is paid once. The results are those of one by one: the same bits, except that 4-bit
weights widened to float32 are multiplied in another order (tested)."""
_GARBAGE_DB = -20.0
"""Logits whose error is ten times their size: no rounding does that, but kernels reading weights wrongly do."""


class TFLiteModel:
    """Meets `quantizers.adapter.QuantizedModel`."""

    def __init__(
        self,
        path: Path,
        records: Sequence[Record],
        execution_why: str | None = None,
        training: Trained | None = None,
        batch: int = BATCH,
    ) -> None:
        self.path = path
        self._batch = batch
        self.training = training
        self.execution = Execution.SIMULATED if execution_why else Execution.NATIVE
        self.execution_why = execution_why
        self._records = records

    @cached_property
    def _logits_file(self) -> bytes | None:
        return without_softmax(self.path.read_bytes())

    @cached_property
    def _session(self) -> LiteRTSession:
        return LiteRTSession(self._logits_file or self.path)

    @property
    def steps(self) -> Sequence[Step]:
        """What a person should know of how the model is measured."""
        return [Step("Output", logits.WHY)] if self._logits_file else []

    def layers(self) -> Sequence[QuantizedLayer]:
        return [record.layer for record in self._records]

    def predict(self, batch: Batch) -> Batch:
        """The outputs of a batch; of a softmax at the end, what it reads."""
        session = self._session
        return np.concatenate([session.logits(session.run(session.prepare(part))) for part in _parts(batch, self._batch)])

    def activations(self, batch: Batch) -> Mapping[str, Batch]:
        """The output of every weighted layer, after the activation function that TFLite fused into it."""
        session = LiteRTSession(self.path, every_tensor=True)
        parts: dict[str, list[Batch]] = {record.layer.name: [] for record in self._records}
        for part in _parts(batch, self._batch):
            session.run(session.prepare(part))
            for record in self._records:
                output = record.layer.output
                params = None if output is None else output.params
                parts[record.layer.name].append(to_float(session.tensor(record.output_index), params))
        return {name: np.concatenate(values) for name, values in parts.items()}


def _parts(batch: Batch, size: int) -> Iterator[Batch]:
    for start in range(0, len(batch), size):
        yield batch[start : start + size]


def finish(
    path: Path,
    file: bytes,
    float_file: bytes,
    kernels: Kernels,
    technique: Technique,
    kept: Collection[str] = (),
    training: Trained | None = None,
    batch: int = BATCH,
) -> TFLiteModel:
    """Writes a converted file to `path`, reads back what became of its layers and checks it.

    Raises:
        NothingQuantized, ConversionFailed: as `describe` and `check`.
    """
    path.write_bytes(file)
    why = simulate.WHY if simulate.covers(technique) else None
    model = TFLiteModel(path, describe(file, float_file, kernels, technique, kept), why, training, batch)
    check(model, technique, float_file)
    return model


def check(model: TFLiteModel, technique: Technique, float_file: bytes) -> None:
    """Makes sure that the result is what was asked for: converters can return a float model, and kernels garbage, in silence.

    Raises:
        NothingQuantized: every weight, or with static quantization every activation, is still float.
        ConversionFailed: the model has no weighted layer, computes NaN or infinity, or nothing like the float model.
    """
    layers = model.layers()
    if not layers:
        raise ConversionFailed("The converted model has no convolution and no dense layer.")
    if technique.mode is not Mode.FLOAT32 and not any(layer.quantized for layer in layers):
        reasons = " ".join(dict.fromkeys(f"{layer.name}: {layer.why_not}" for layer in layers))
        raise NothingQuantized("The converter left every layer in float.", reasons)
    if technique.mode in (Mode.STATIC, Mode.QAT) and all(
        layer.runs_in.startswith("hybrid") for layer in layers if layer.quantized
    ):
        raise NothingQuantized("The converter left every activation in float.", "Check the calibration samples.")
    _check_logits(model.path, float_file)


def _check_logits(path: Path, float_file: bytes) -> None:
    """Runs random samples: twice in the file, which must give the same bits, and once in its float form."""
    session, other = LiteRTSession(path), LiteRTSession(float_file)
    batch = np.random.default_rng(0).standard_normal(session.input_shape).astype(np.float32)
    first, second = (session.logits(session.run(session.prepare(batch))) for _ in range(2))
    if not np.isfinite(first).all():
        raise ConversionFailed("The converted model computes NaN or infinity.", "Check the weights of the float model.")
    if not np.array_equal(first, second):
        raise ConversionFailed("The converted model gives two results for one input: its kernels are broken here.")
    sqnr_db = tensor_error(other.logits(other.run(other.prepare(batch))), first).sqnr_db
    if sqnr_db is not None and sqnr_db < _GARBAGE_DB:
        raise ConversionFailed(f"The converted model computes nothing like the float one: its logits are at {sqnr_db:.0f} dB.")
