"""The face of the TFLite backend: quantizing needs TensorFlow, opening an artefact needs only LiteRT.

TensorFlow's converter makes the classic techniques from the Keras model. The others start from its float file: litert-quantizer
makes those of few bits and of weights alone, and binary and ternary weights are imitated. The libraries are imported
inside the methods, through modules that each need one of them, so that creating the adapter costs nothing and a latency trial
never pays for TensorFlow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from quantizers.adapter import Batch, Report, Request
from quantizers.calibration import check_calibration
from quantizers.capabilities import require, require_keep_float
from quantizers.schema import Backend, Mode, Options, Technique

if TYPE_CHECKING:
    from models.float_model import FloatModel
    from quantizers.tflite.model import TFLiteModel
    from quantizers.tflite.runtime import LiteRTSession

ARTEFACT = "model.tflite"
_LIBRARIES = ("tensorflow", "keras", "ai-edge-litert", "litert-quantizer")


class TFLiteAdapter:
    """Meets `quantizers.adapter.Adapter`."""

    backend = Backend.TFLITE
    runtime = "quantizers.tflite.runtime"

    def quantize(self, model: FloatModel, request: Request, report: Report) -> TFLiteModel:
        """Converts the Keras form of `model` into `request.workdir`.

        The plain float conversion is made as well: its weights, with batch norms folded in, are what the quantized ones are
        compared with.

        Raises:
            Unsupported: TFLite has no such technique, or layers are asked to stay in float.
            BadData: the calibration samples are missing, not finite or of the wrong shape.
            NothingQuantized: the converter left every layer in float although the technique quantizes.
            ConversionFailed: the converter refused the model, or the result does not compute.
        """
        require(self.backend, request.technique)
        from quantizers.tflite import convert, describe, simulate
        from quantizers.tflite.model import TFLiteModel, check

        technique = request.technique
        if request.keep_float:
            require_keep_float(self.backend, technique)
        report(0.0, "Building the Keras model")
        network = model.keras_model()
        kernels = convert.kernels(network)
        samples = check_calibration(request.calibration, network.input_shape[1:]) if technique.needs_calibration else None
        report(0.1, "Converting to float32, the reference")
        float_file = convert.convert(network, Technique(Mode.FLOAT32), {}, None, report)
        report(0.4, f"Converting to {technique.code}")
        if technique.mode is Mode.FLOAT32:
            file = float_file
        elif _is_converters(technique):
            file = convert.convert(network, technique, request.options, samples, report)
        else:
            kept = describe.outputs(float_file, kernels, request.keep_float)
            file = _rewrite(float_file, technique, samples, kept, report)
        report(0.9, "Reading the converted file")
        path = request.workdir / ARTEFACT
        path.write_bytes(file)
        records = describe.describe(file, float_file, kernels, technique, request.keep_float)
        quantized = TFLiteModel(path, records, simulate.WHY if simulate.covers(technique) else None)
        check(quantized, technique, float_file)
        return quantized

    def open(self, artefact: Path, options: Options, threads: int) -> LiteRTSession:  # noqa: ARG002 - nothing to choose here
        """Loads a .tflite with the default delegate (XNNPACK), ready to be timed. TensorFlow is not imported."""
        from quantizers.tflite.runtime import LiteRTSession

        return LiteRTSession(artefact, threads)

    def versions(self) -> Mapping[str, str]:
        """Versions of the converter, of Keras and of the runtime, read without importing them."""
        return {library: version(library) for library in _LIBRARIES}


def _is_converters(technique: Technique) -> bool:
    """Whether TensorFlow's converter makes `technique` from the Keras model; the others are made from its float file."""
    from quantizers.tflite import recipes, simulate

    return not recipes.covers(technique) and not simulate.covers(technique)


def _rewrite(float_file: bytes, technique: Technique, samples: Batch | None, kept: Sequence[str], report: Report) -> bytes:
    """The quantized form of a float .tflite; operations that compute the tensors `kept` stay in float."""
    from quantizers.tflite import recipes, simulate

    if simulate.covers(technique):
        return simulate.quantize(float_file, technique, kept)
    return recipes.quantize(float_file, technique, samples, kept, report)
