"""Float model → `.pt2`: which way a technique goes.

The batch norms of a float32 artefact are folded when it is to be lowered, because a folded graph is what any optimizing
runtime ships, and because its layers are then the ones the quantized artefacts have. With `lowered` false they stay: that
artefact is the module as a person calls it, operation by operation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.export import ExportedProgram

from quantizers.adapter import Report, Request
from quantizers.calibration import check_calibration
from quantizers.errors import ConversionFailed, QuantScopeError, Unsupported
from quantizers.pytorch.annotate import BASELINE
from quantizers.pytorch.bare import without_graph
from quantizers.pytorch.bare_model import BareModel
from quantizers.pytorch.describe import describe
from quantizers.pytorch.graph import layer_name, layers, looks_up
from quantizers.pytorch.ladder import climb
from quantizers.pytorch.model import TorchModel, to_tensor
from quantizers.pytorch.program import duplicate, float_weights, fold, load_program, save
from quantizers.pytorch.ptq import Source, check_quantized, check_weights, post_training
from quantizers.pytorch.qat import quantization_aware
from quantizers.schema import Execution, Mode

if TYPE_CHECKING:
    from models.float_model import FloatModel

ARTEFACT = "model.pt2"
_HALF = {Mode.FLOAT16: torch.float16, Mode.BFLOAT16: torch.bfloat16}


def quantize(model: FloatModel, request: Request, report: Report) -> TorchModel | BareModel:
    """Converts `model` and leaves the artefact in `request.workdir`; see `Adapter.quantize`."""
    shape = model.info.input_shape
    samples = check_calibration(request.calibration, shape) if request.technique.needs_calibration else None
    sample, calibration = to_tensor(np.zeros((2, *shape), np.float32)), None if samples is None else to_tensor(samples)
    with _refusals():
        report(0.0, "exporting the model")
        climbed = climb(model.torch_module(), sample)
        if climbed.graph is None:
            return without_graph(climbed, request, calibration, report)
        source = Source(fold(climbed.graph), sample, calibration)
        check_weights(float_weights(source.program))
        return replace(_from_graph(climbed.graph, source, request, report), steps=climbed.steps)


def _from_graph(exported: ExportedProgram, source: Source, request: Request, report: Report) -> TorchModel:
    mode, path = request.technique.mode, request.workdir / ARTEFACT
    if mode is Mode.FLOAT32:
        return _float32(exported, source, request, path)
    if mode in _HALF:
        return _half(source, request, path)
    if mode is Mode.QAT:
        return quantization_aware(source, request, path, report)
    return post_training(source, request, path, lambda done, words: report(0.2 + 0.8 * done, words))


def _float32(exported: ExportedProgram, source: Source, request: Request, path: Path) -> TorchModel:
    lowered = bool(request.options.get("lowered", True))
    references = float_weights(source.program)
    reasons = {layer_name(layer): BASELINE for layer in layers(source.program.graph)}
    save(source.program if lowered else exported.module(), source.sample, path)
    program = load_program(path)
    described = describe(program, references if lowered else float_weights(program), reasons, frozenset())
    return TorchModel(path, Execution.NATIVE, None, program, program if lowered else source.program, described)


def _half(source: Source, request: Request, path: Path) -> TorchModel:
    """The folded program with every tensor in 16 bits, those it computes as well; numbers of table rows stay as they are."""
    if request.keep_float:
        raise Unsupported(
            f"{request.technique.code} computes the whole model in 16 bits; it keeps no layer in float32.",
            "Keep layers float in mixed precision instead.",
        )
    dtype = _HALF[request.technique.mode]
    references = float_weights(source.program)
    reasons: dict[str, str | None] = dict.fromkeys(references)
    check_quantized(request.technique, reasons)
    sample = source.sample if looks_up(source.program) else source.sample.to(dtype)
    save(duplicate(source.program).to(dtype), sample, path)
    program = load_program(path)
    return TorchModel(path, Execution.NATIVE, None, program, program, describe(program, references, reasons, frozenset()))


@contextmanager
def _refusals() -> Iterator[None]:
    """Turns whatever PyTorch raises on a model it cannot convert into `ConversionFailed`."""
    try:
        yield
    except QuantScopeError:
        raise
    except Exception as error:
        first = str(error).strip().split("\n")[0]
        raise ConversionFailed(
            f"PyTorch refused the model: {type(error).__name__}: {first}", "The run's log has the whole message."
        ) from error
