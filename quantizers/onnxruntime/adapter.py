"""The face of the ONNX Runtime backend (facade): onnx and the runtime are imported inside the methods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from quantizers.adapter import Report, Request
from quantizers.calibration import check_calibration
from quantizers.capabilities import needs_calibration
from quantizers.errors import ConversionFailed, QuantScopeError, UnknownName
from quantizers.schema import Backend, Options

if TYPE_CHECKING:
    from models.float_model import FloatModel
    from quantizers.onnxruntime.model import OnnxModel
    from quantizers.onnxruntime.session import OnnxSession

ARTEFACT = "model.onnx"
_LIBRARIES = ("onnxruntime", "onnx")


class OnnxRuntimeAdapter:
    """Meets `quantizers.adapter.Adapter`."""

    backend = Backend.ONNXRUNTIME
    runtime = "quantizers.onnxruntime.session"

    def quantize(self, model: FloatModel, request: Request, report: Report) -> OnnxModel:
        """Quantizes the ONNX form of `model`, prepared by the runtime's own preprocessing, into `request.workdir`.

        The prepared float model, batch norms folded in, gives the weights that the quantized ones are compared with; it is
        also the float32 artefact.

        Raises:
            Unsupported: ONNX Runtime has no such technique.
            UnknownName: a layer to keep in float, or of mixed precision, is none of the model's.
            BadData: the calibration samples are missing, not finite or of the wrong shape.
            NothingQuantized: every layer is float although the technique quantizes.
            ConversionFailed: the runtime refused the model, or the result does not compute.
        """
        from quantizers.onnxruntime.convert import Job
        from quantizers.onnxruntime.describe import by_layer
        from quantizers.onnxruntime.finish import finish
        from quantizers.onnxruntime.prepare import prepare
        from quantizers.onnxruntime.qat import quantization_aware

        for name in request.keep_float:
            if name not in model.layer_names:
                raise UnknownName.of("layer", name, model.layer_names)
        needed = needs_calibration(request.technique, request.options)
        samples = check_calibration(request.calibration, model.info.input_shape) if needed else None
        path = request.workdir / ARTEFACT
        with TemporaryDirectory() as name, _refusals():
            folder = Path(name)
            report(0.0, "Building the ONNX model")
            prepared = prepare(model.onnx_model(), folder / "prepared.onnx")
            float_ops = by_layer(prepared.ops, model.layer_names)
            report(0.2, "Quantizing")
            if request.technique.needs_training:
                return quantization_aware(model, request, path, float_ops, folder, report)
            job = Job(request, prepared.model, folder / "prepared.onnx", float_ops, samples, folder, report, [*prepared.steps])
            sample = prepared.noise if samples is None else samples[:1]
            return finish(job, path, sample)

    def open(self, artefact: Path, options: Options, threads: int) -> OnnxSession:  # noqa: ARG002 - nothing to choose here
        """Loads an .onnx on the CPU, ready to be timed. Neither onnx nor a framework is imported."""
        from quantizers.onnxruntime.session import OnnxSession

        return OnnxSession(artefact, threads)

    def versions(self) -> Mapping[str, str]:
        """Versions of the runtime, whose tools also quantize, and of the format, read without importing them."""
        return {library: version(library) for library in _LIBRARIES}


@contextmanager
def _refusals() -> Iterator[None]:
    """Turns whatever the libraries raise on a model they cannot take into `ConversionFailed`."""
    try:
        yield
    except QuantScopeError:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConversionFailed(f"ONNX Runtime refused the model: {reason}", "The log has the details.") from error
