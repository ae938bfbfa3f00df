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
    kernels of this CPU, which is what latency times.
    """

    backend = Backend.PYTORCH
    runtime = "quantizers.pytorch.session"

    def quantize(self, model: FloatModel, request: Request, report: Report) -> QuantizedModel:
        """See `Adapter.quantize`. Techniques: float32, dynamic_wi8, static_wi8_ai8, weight_only_wi8.

        Raises:
            UnknownName: `keep_float` names a layer the model does not have.
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
