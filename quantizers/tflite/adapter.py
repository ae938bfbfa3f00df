"""The face of the TFLite backend: quantizing needs TensorFlow, opening an artefact needs only LiteRT.

TensorFlow's converter makes the classic techniques from the Keras model. The others start from its float file, or from one that
a person brought: litert-quantizer makes those of few bits, of weights alone, of some layers only and of any .tflite; binary and
ternary weights are imitated. The libraries are imported inside the methods, through modules that each need one of them, so that
creating the adapter costs nothing and a latency trial never pays for TensorFlow.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from quantizers.adapter import Batch, Report, Request
from quantizers.calibration import check_calibration
from quantizers.capabilities import require, require_keep_float
from quantizers.errors import Unsupported
from quantizers.schema import Backend, Mode, Options, Technique

if TYPE_CHECKING:
    from models.float_model import FloatModel
    from quantizers.tflite.model import TFLiteModel
    from quantizers.tflite.plain import Plain
    from quantizers.tflite.runtime import LiteRTSession

ARTEFACT = "model.tflite"
_LIBRARIES = ("tensorflow", "keras", "ai-edge-litert", "litert-quantizer")


class TFLiteAdapter:
    """Meets `quantizers.adapter.Adapter`."""

    backend = Backend.TFLITE
    runtime = "quantizers.tflite.runtime"

    def quantize(self, model: FloatModel, request: Request, report: Report) -> TFLiteModel:
        """Converts `model`, from its Keras form or from the .tflite it is, into `request.workdir`.

        The plain float conversion is made as well, or found among what trials share: its weights, with batch norms folded in,
        are what the quantized ones are compared with.

        Raises:
            Unsupported: TFLite has no such technique, or layers are asked to stay in float.
            BadData: the calibration samples are missing, not finite or of the wrong shape.
            NothingQuantized: the converter left every layer in float although the technique quantizes.
            ConversionFailed: the converter refused the model, or the result does not compute.
        """
        require(self.backend, request.technique)
        from quantizers.tflite.model import finish
        from quantizers.tflite.plain import convert_plainly

        technique = request.technique
        if request.keep_float:
            require_keep_float(self.backend, technique)
        if technique.mode is Mode.QAT:
            return _train(model, request, report)
        report(0.0, "Converting to float32, the reference")
        plain = convert_plainly(model, technique, request.shared, report)
        samples = check_calibration(request.calibration, plain.input_shape) if technique.needs_calibration else None
        report(0.4, f"Converting to {technique.code}")
        widths = _widths(technique, list(plain.kernels))
        kept = {*request.keep_float, *(name for name, bits in widths.items() if bits == 0)}
        if technique.mode is Mode.FLOAT32:
            file = plain.file
        elif plain.network is not None and _is_converters(request):
            from quantizers.tflite import convert

            file = convert.convert(plain.network(), technique, request.options, samples, report)
        else:
            file = _rewrite(plain, request, samples, kept, widths, report)
        report(0.9, "Reading the converted file")
        if request.options.get("float_fallback") is False:
            from quantizers.tflite.file import integer_only

            integer_only(file)
        path = request.workdir / ARTEFACT
        return finish(path, file, plain.file, plain.kernels, technique, kept, batch=plain.batch)

    def open(self, artefact: Path, options: Options, threads: int) -> LiteRTSession:  # noqa: ARG002 - nothing to choose here
        """Loads a .tflite with the default delegate (XNNPACK), ready to be timed. TensorFlow is not imported."""
        from quantizers.tflite.runtime import LiteRTSession

        return LiteRTSession(artefact, threads)

    def versions(self) -> Mapping[str, str]:
        """Versions of the converter, of Keras and of the runtime, read without importing them."""
        return {library: version(library) for library in _LIBRARIES}


def _is_converters(request: Request) -> bool:
    """Whether TensorFlow's converter makes what is asked for from a Keras model; else it is made from the float file."""
    from quantizers.tflite import recipes, simulate

    technique, options = request.technique, request.options
    others = options.get("calibrator", "minmax") != "minmax" or options.get("weight_range", "minmax") != "minmax"
    return not (recipes.covers(technique) or simulate.covers(technique) or request.keep_float or others)


def _widths(technique: Technique, names: Sequence[str]) -> Mapping[str, int]:
    """Mixed precision: bits by layer, 0 for float.

    Raises:
        Unsupported: 2 bits are asked for.
    """
    widths = technique.bits_by_layer(names) if technique.mode is Mode.MIXED else {}
    if narrow := [name for name, bits in widths.items() if bits == 2]:
        what = f"{', '.join(narrow)} cannot have 2 bits: TFLite's 2-bit kernels give wrong results, and differ from run to run."
        raise Unsupported(what, "Give 4, 8, 16 or float.")
    return widths


def _rewrite(
    plain: Plain, request: Request, samples: Batch | None, kept: Collection[str], widths: Mapping[str, int], report: Report
) -> bytes:
    """The quantized form of a float .tflite; the layers `kept` stay in float."""
    from quantizers.tflite import describe, recipes, simulate

    tensors = describe.outputs(plain.file, plain.kernels)
    left = [tensors[name] for name in tensors if name in kept]
    if request.technique.group_size:
        left += describe.uneven(plain.file, request.technique.group_size)
    if simulate.covers(request.technique):
        return simulate.quantize(plain.file, request.technique, left)
    bits = {tensors[name]: width for name, width in widths.items() if width}
    return recipes.quantize(plain.file, request.technique, samples, left, report, request.options, bits)


def _train(model: FloatModel, request: Request, report: Report) -> TFLiteModel:
    from quantizers.tflite.qat import quantization_aware

    report(0.0, "Building the Keras model")
    network = model.keras_model()
    samples = check_calibration(request.calibration, tuple(network.input_shape[1:]))
    return quantization_aware(network, request, samples, report)
