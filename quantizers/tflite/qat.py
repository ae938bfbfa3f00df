"""Quantization-aware training, always beside its equal-budget control, each ending in a real integer .tflite.

Both arms begin at the same folded network and see the same batches in the same order, with the same optimizer, for as many
epochs; the control trains in float, and is then quantized by the same converter from calibration samples alone. The difference
is what training with rounding gave, and not what more training gave.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from quantizers.adapter import Arm, Batch, Epoch, Report, Request, Trained, Training
from quantizers.schema import Mode, Technique
from quantizers.tflite import convert
from quantizers.tflite.model import TFLiteModel, finish
from quantizers.tflite.twin import Twin, build

BATCH = 64
PATIENCE = 2
"""Epochs without a better accuracy after which training stops."""
CONTROL = "control.tflite"
_EVALUATION_BATCH = 500
_FLOAT = Technique(Mode.FLOAT32)


@dataclass(frozen=True, eq=False)
class Schooling:
    """How both arms are trained: Adam, whose rate falls to zero along a cosine; the order of samples is the seed's."""

    request: Request
    samples: Training
    epochs: int

    def fit(self, arm: Arm, twin: Twin, patience: int, report: Report) -> tuple[Epoch, ...]:
        """Trains `twin`, which is left in the state of its best epoch."""
        x, y, model, history = self.samples.x, self.samples.y, twin.logits, list[Epoch]()
        steps = self.epochs * -(-len(x) // BATCH)
        rate = keras.optimizers.schedules.CosineDecay(float(self.request.options["learning_rate"]), steps)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(rate), loss, jit_compile=False)
        order, began = np.random.default_rng(self.request.seed), time.perf_counter()
        best, kept, since = -1.0, model.get_weights(), 0
        for number in range(1, self.epochs + 1):
            rows = order.permutation(len(x))
            met = model.fit(x[rows], y[rows], batch_size=BATCH, shuffle=False, verbose=0).history["loss"][0]
            epoch = Epoch(arm, number, float(met), self._accuracy(model), time.perf_counter() - began)
            history.append(epoch)
            self.request.on_epoch(epoch)
            report(number / self.epochs, f"{arm}: epoch {number} of {self.epochs}, accuracy {epoch.accuracy:.1%}")
            best, kept, since = (epoch.accuracy, model.get_weights(), 0) if epoch.accuracy > best else (best, kept, since + 1)
            if since >= patience:
                break
        model.set_weights(kept)
        return tuple(history)

    def _accuracy(self, model: Any) -> float:
        logits = predict(model, self.samples.evaluation_x)
        return float((logits.argmax(1) == self.samples.evaluation_y).mean())


def predict(model: Any, batch: Batch) -> Batch:
    """The outputs of a Keras model in inference mode."""
    outputs: Batch = model.predict(batch, batch_size=_EVALUATION_BATCH, verbose=0)
    return outputs


def quantization_aware(network: keras.Model, request: Request, calibration: Batch, report: Report) -> TFLiteModel:
    """Trains both arms and converts both; the control's file lies beside the other.

    Raises:
        BadData: there is nothing to train on.
        Unsupported: training cannot imitate a layer of the network.
        ConversionFailed: the converter refused a trained network.
    """
    samples, began = request.labelled(), time.perf_counter()
    keras.utils.set_random_seed(request.seed)
    bits = _bits(network, request.technique)
    aware, control = build(network, bits), build(network, None)
    aware.calibrate(calibration)
    schooling = Schooling(request, samples, int(request.options["epochs"]))
    history = schooling.fit(Arm.QAT, aware, PATIENCE, _part(report, 0.1, 0.5))
    others = Schooling(request, samples, len(history)).fit(Arm.CONTROL, control, len(history), _part(report, 0.5, 0.8))
    report(0.8, "Converting both")
    stored = build(network, bits)
    stored.take_weights(control)
    stored.calibrate(calibration)
    seconds = time.perf_counter() - began
    untrained = _convert(network, stored, request, CONTROL)
    return _convert(network, aware, request, "model.tflite", Trained((*history, *others), untrained, seconds))


def _convert(network: keras.Model, twin: Twin, request: Request, name: str, training: Trained | None = None) -> TFLiteModel:
    """The file of a twin; its weights before rounding are the references."""
    plain = build(network, None)
    plain.take_weights(twin)
    float_file = convert.convert(plain.network, _FLOAT, {}, None, _silent)
    with twin.convertible() as convertible:
        file = convert.convert(convertible, request.technique, request.options, None, _silent)
    kernels = convert.kernels(plain.network)
    return finish(request.workdir / name, file, float_file, kernels, request.technique, training=training)


def _bits(network: keras.Model, technique: Technique) -> Mapping[str, int]:
    assert technique.weight_bits is not None
    return dict.fromkeys((layer.name for layer in network.layers), technique.weight_bits)


def _part(report: Report, start: float, end: float) -> Report:
    return lambda fraction, words: report(start + fraction * (end - start), words)


def _silent(fraction: float, what: str) -> None:
    """Conversions without calibration samples have no progress to tell."""
