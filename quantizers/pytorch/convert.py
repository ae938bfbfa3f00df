"""Float model → `.pt2`: export, fold batch norms, insert observers, calibrate, convert, drop what is left of the float weights.

The batch norms of a float32 artefact are folded when it is to be lowered, because a folded graph is what any optimizing
runtime ships, and because its layers are then the ones the quantized artefacts have. With `lowered` false they stay: that
artefact is the module as a person calls it, operation by operation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.export import ExportedProgram
from torch.fx import GraphModule
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

from quantizers.adapter import Report, Request
from quantizers.calibration import check_calibration
from quantizers.errors import ConversionFailed, NothingQuantized, QuantScopeError, Unsupported
from quantizers.pytorch.annotate import LayerQuantizer
from quantizers.pytorch.describe import Weights, describe
from quantizers.pytorch.graph import array, layer_name, layers
from quantizers.pytorch.lowering import int8_layers
from quantizers.pytorch.model import TorchModel, to_tensor
from quantizers.pytorch.program import export, load_program, save, strip
from quantizers.pytorch.rewrite import rewrite
from quantizers.schema import Execution, Mode

if TYPE_CHECKING:
    from models.float_model import FloatModel

ARTEFACT = "model.pt2"
_CALIBRATION_BATCH = 32
_PROBE = 8
_HALF = {Mode.FLOAT16: torch.float16, Mode.BFLOAT16: torch.bfloat16}


def quantize(model: FloatModel, request: Request, report: Report) -> TorchModel:
    """Converts `model` and leaves the artefact in `request.workdir`; see `Adapter.quantize`."""
    shape = model.info.input_shape
    samples = check_calibration(request.calibration, shape) if request.technique.needs_calibration else None
    calibration = None if samples is None else to_tensor(samples)
    sample = to_tensor(np.zeros((2, *shape), np.float32))
    path = request.workdir / ARTEFACT
    with _refusals():
        report(0.0, "exporting the model")
        exported = export(model.torch_module(), sample)
        if request.technique.mode is Mode.FLOAT32:
            return _float32(exported, request, sample, path)
        if request.technique.mode in _HALF:
            return _half(exported, request, sample, path)
        report(0.2, "inserting observers")
        quantizer = _quantizer(request)
        prepared = prepare_pt2e(exported.module(), quantizer)
        _check_quantized(request, quantizer.reasons)
        references = _weights(prepared)
        for done, batch in _batches(calibration if calibration is not None else sample):
            report(0.3 + 0.3 * done, "calibrating")
            with torch.no_grad():
                prepared(batch)
        report(0.6, "converting")
        converted = rewrite(
            convert_pt2e(prepared),
            quantizer.kinds,
            references,
            group_size=request.technique.group_size,
            search=request.options.get("weight_range") == "mse",
        )
        save(strip(converted), sample, path)
        program = load_program(path)
    report(0.8, "looking for int8 kernels on this machine")
    probe = calibration[:_PROBE] if calibration is not None else _noise(request.seed, sample)
    fused, why = int8_layers(program, probe)
    execution = Execution.SIMULATED if why else Execution.NATIVE
    return TorchModel(path, execution, why, program, program, describe(program, references, quantizer.reasons, fused))


def _float32(exported: ExportedProgram, request: Request, sample: torch.Tensor, path: Path) -> TorchModel:
    quantizer = _quantizer(request)
    folded = strip(prepare_pt2e(exported.module(), quantizer))
    lowered = bool(request.options.get("lowered", True))
    save(folded if lowered else exported.module(), sample, path)
    program = load_program(path)
    described = describe(program, _weights(program), quantizer.reasons, frozenset())
    return TorchModel(path, Execution.NATIVE, None, program, program if lowered else folded, described)


def _half(exported: ExportedProgram, request: Request, sample: torch.Tensor, path: Path) -> TorchModel:
    """The folded program with every tensor in 16 bits, those it computes as well."""
    if request.keep_float:
        raise Unsupported(
            f"{request.technique.code} computes the whole model in 16 bits; it keeps no layer in float32.",
            "Keep layers float in mixed precision instead.",
        )
    dtype = _HALF[request.technique.mode]
    quantizer = _quantizer(request)
    folded = strip(prepare_pt2e(exported.module(), quantizer))
    references = _weights(folded)
    _check_quantized(request, dict.fromkeys(references))
    save(folded.to(dtype), sample.to(dtype), path)
    program = load_program(path)
    described = describe(program, references, quantizer.reasons, frozenset())
    return TorchModel(path, Execution.NATIVE, None, program, program, described)


def _quantizer(request: Request) -> LayerQuantizer:
    return LayerQuantizer(
        request.technique,
        per_channel=bool(request.options.get("per_channel", True)),
        observer=str(request.options.get("observer", "histogram")),
        activations=str(request.options.get("activations", "affine")),
        keep_float=request.keep_float,
    )


def _weights(program: GraphModule) -> Weights:
    """Float weights by layer name; in a prepared program an observer stands between the weight and its layer."""
    found = {}
    for layer in layers(program.graph):
        weight = layer.args[1]
        while isinstance(weight, torch.fx.Node) and weight.op == "call_module":
            weight = weight.args[0]
        if isinstance(weight, torch.fx.Node) and weight.op == "get_attr":
            found[layer_name(layer)] = array(program, weight)
    return found


def _check_quantized(request: Request, reasons: dict[str, str | None]) -> None:
    if None not in reasons.values():
        why = (
            "; ".join(dict.fromkeys(str(reason) for reason in reasons.values()))
            or "the model has no convolution or dense layer"
        )
        raise NothingQuantized(
            f"{request.technique.code} quantized no layer: {why}.", "Choose another technique for this model."
        )


def _batches(samples: torch.Tensor) -> Iterator[tuple[float, torch.Tensor]]:
    """Pairs of the fraction done and the next minibatch.

    Without calibration data this is one batch of zeros: the observers of weights look when the program runs, and without
    a run they would answer scale 1 with no more than a warning.
    """
    for start in range(0, len(samples), _CALIBRATION_BATCH):
        yield start / len(samples), samples[start : start + _CALIBRATION_BATCH]


def _noise(seed: int, sample: torch.Tensor) -> torch.Tensor:
    return torch.rand((_PROBE, *sample.shape[1:]), generator=torch.Generator().manual_seed(seed))


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
