"""A quantized model: the file, what became of its layers, and its computation by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx

from quantizers.adapter import Batch, Step, Trained
from quantizers.errors import ConversionFailed, NothingQuantized
from quantizers.numerics import to_float
from quantizers.onnxruntime.describe import Record
from quantizers.onnxruntime.reader import DYNAMIC
from quantizers.onnxruntime.session import OnnxSession
from quantizers.schema import Execution, Mode, QuantizedLayer, Technique

_BATCH = 100
_WHY_SIMULATED = {
    Mode.BINARY: "ONNX Runtime has no 1-bit kernels: signs take two bits in the file and are multiplied in float32.",
    Mode.TERNARY: "ONNX Runtime has no ternary kernels: weights take two bits in the file and are multiplied in float32.",
    Mode.HYBRID: "ONNX Runtime has no kernel for float16 weights with 8-bit activations: both are turned into float32.",
}


class OnnxModel:
    """Meets `quantizers.adapter.QuantizedModel`, and `Improvable`."""

    def __init__(
        self,
        path: Path,
        records: Sequence[Record],
        technique: Technique,
        steps: Sequence[Step] = (),
        training: Trained | None = None,
        plain: OnnxModel | None = None,
    ) -> None:
        self.path = path
        self.training = training
        self.plain = plain
        self.execution_why = _WHY_SIMULATED.get(technique.mode)
        self.execution = Execution.SIMULATED if self.execution_why else Execution.NATIVE
        self._records = records
        self.steps = tuple(steps)

    @cached_property
    def _session(self) -> OnnxSession:
        return OnnxSession(self.path)

    def layers(self) -> Sequence[QuantizedLayer]:
        return [record.layer for record in self._records]

    def predict(self, batch: Batch) -> Batch:
        session = self._session
        return np.concatenate([session.run(session.prepare(part)) for part in self._parts(batch)])

    def activations(self, batch: Batch) -> Mapping[str, Batch]:
        """The output of every weighted layer, after the activation function that belongs to it, channels last."""
        names = [record.output for record in self._records]
        parts: dict[str, list[Batch]] = {record.layer.name: [] for record in self._records}
        for part in self._parts(batch):
            for record, values in zip(self._records, self._observed.tensors(names, self._observed.prepare(part)), strict=True):
                output = record.layer.output
                real = to_float(values, None if output is None else output.params)
                parts[record.layer.name].append(real if real.ndim < 3 else np.moveaxis(real, 1, -1))
        return {name: values[0] if len(values) == 1 else np.concatenate(values) for name, values in parts.items()}

    @cached_property
    def _observed(self) -> OnnxSession:
        """The same model, with the layers' outputs among its own."""
        model = onnx.load(self.path)
        present = {output.name for output in model.graph.output}
        missing = dict.fromkeys(record.output for record in self._records if record.output not in present)
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in missing)
        return OnnxSession(model.SerializeToString())

    def _parts(self, batch: Batch) -> Iterator[Batch]:
        """A dynamic range spans the whole batch, so samples would change each other's result: those run one at a time."""
        dynamic = any(tensor.dtype == DYNAMIC for layer in self.layers() for tensor in layer.inputs)
        size = _BATCH if self._session.signature.batched and not dynamic else 1
        for start in range(0, len(batch), size):
            yield batch[start : start + size]


def check(model: OnnxModel, technique: Technique, sample: Batch | None) -> None:
    """Makes sure that quantizing did what it was asked for: the runtime's tools can return a float model without an error.

    Args:
        sample: [1, …] that the float model computes finite numbers on; None when there is none.

    Raises:
        NothingQuantized: every weight, or with static quantization every activation, is still float.
        ConversionFailed: the model computes NaN or infinity.
    """
    layers = model.layers()
    if technique.mode is not Mode.FLOAT32 and not any(layer.quantized for layer in layers):
        reasons = " ".join(dict.fromkeys(f"{layer.name}: {layer.why_not}" for layer in layers))
        raise NothingQuantized(f"{technique.code} left every layer in float.", reasons)
    measured = [tensor.params for layer in layers if layer.quantized for tensor in layer.inputs]
    if technique.mode in (Mode.STATIC, Mode.HYBRID) and not any(measured):
        raise NothingQuantized("ONNX Runtime left every activation in float.", "Check the calibration samples.")
    if sample is not None and not np.isfinite(model.predict(sample)).all():
        raise ConversionFailed("The converted model computes NaN or infinity.", "Check the weights of the float model.")
