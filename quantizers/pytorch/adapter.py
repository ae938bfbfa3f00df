"""The PyTorch backend as `quantizers.adapter.Adapter` (facade): everything that needs torch is imported inside the methods."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from quantizers.adapter import QuantizedModel, Report, Request, Session
from quantizers.schema import Backend, Options

if TYPE_CHECKING:
    from models.float_model import FloatModel


class PyTorchAdapter:
    """Quantizes with torchao's PT2E and ships a `.pt2` (`torch.export.save`).

    The `.pt2` of a quantized model is its Q/DQ program: integer weights, and quantize/dequantize pairs around float operations.
    `predict` and `activations` run that program, so they give the same on every machine; `open` lowers it to the fused int8
    kernels of this CPU, which is what latency times. Of a module without a graph (`ladder`) it ships a `.safetensors` of its
    tensors, which nothing can time.
    """

    backend = Backend.PYTORCH
    runtime = "quantizers.pytorch.session"

    def quantize(self, model: FloatModel, request: Request, report: Report) -> QuantizedModel:
        """See `Adapter.quantize`. Weights that no int8 kernel takes are packed as small as their bits say.

        In mixed precision a layer's number is the width of its weights: 8 is int8, 4 and 2 are packed integers, 16 is float16;
        activations of every layer that is not float are calibrated to 8 bits.

        Quantization-aware training comes back with its equal-budget control (`training`); better rounding, equalization and
        corrected biases come back with the same model rounded plainly (`plain`, see `quantizers.adapter.Improvable`).

        Raises:
            BadData: samples to calibrate or to train with are missing or unusable, or a weight is empty, NaN or infinite.
            UnknownName: a layer to keep float, or a pattern of mixed precision, fits no layer of the model.
            Unsupported: layers to keep float with a technique that computes the whole model in 16 bits.
        """
        from quantizers.pytorch.convert import quantize

        return quantize(model, request, report)

    def open(self, artefact: Path, options: Options, threads: int) -> Session:
        """See `Adapter.open`. `options["lowered"]` False runs a float32 artefact operation by operation, as exported.

        Raises:
            Unsupported: this PyTorch cannot lower the artefact, so there is nothing true to time.
        """
        from quantizers.pytorch.session import open_session

        return open_session(artefact, lowered=bool(options.get("lowered", True)), threads=threads)

    def versions(self) -> Mapping[str, str]:
        return {name: version(name) for name in ("torch", "torchao")}
