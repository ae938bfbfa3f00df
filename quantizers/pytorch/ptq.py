"""Post-training quantization of a folded program: observers, calibration, conversion, rounded weights, improvements, a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.fx import GraphModule
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

from quantizers.adapter import Report, Request
from quantizers.capabilities import capability
from quantizers.errors import BadData, NothingQuantized
from quantizers.pytorch.annotate import LayerQuantizer
from quantizers.pytorch.describe import Weights, describe
from quantizers.pytorch.equalize import Scales, equalize
from quantizers.pytorch.lowering import int8_layers
from quantizers.pytorch.model import TorchModel
from quantizers.pytorch.program import duplicate, float_weights, load_program, save, strip
from quantizers.pytorch.refine import Improvements, refine
from quantizers.pytorch.rewrite import rewrite, rounded
from quantizers.pytorch.weights import Choice
from quantizers.schema import Backend, Execution, Options, Technique

CALIBRATION_BATCH = 32
_PROBE = 8
PLAIN: Options = {"equalize": False, "rounding": "nearest", "bias_correction": False}
"""The options that post-training quantization has without any of its improvements."""
HALF_QUADRATIC = "hqq"


@dataclass(frozen=True, eq=False)
class Source:
    """A float program with batch norms folded, and samples [N, C, …]: two of zeros, and those to calibrate with."""

    program: GraphModule
    sample: torch.Tensor
    calibration: torch.Tensor | None

    def batches(self) -> Iterator[tuple[float, torch.Tensor]]:
        """Pairs of the fraction done and the next minibatch to calibrate with."""
        samples = self.calibration if self.calibration is not None else self.sample[:0]
        for start in range(0, len(samples), CALIBRATION_BATCH):
            yield start / len(samples), samples[start : start + CALIBRATION_BATCH]


def quantizer_of(request: Request) -> LayerQuantizer:
    return LayerQuantizer(
        request.technique,
        observer=str(request.options.get("observer", "histogram")),
        activations=str(request.options.get("activations", "affine")),
        keep_float=request.keep_float,
    )


def post_training(source: Source, request: Request, path: Path, report: Report) -> TorchModel:
    """Quantizes without training; `source` stays as it is.

    With an improvement among the options, the model has a `plain` one beside it: the same without improvements.
    """
    improvements, equalized = Improvements.of(request.options), bool(request.options.get("equalize", False))
    float_program = duplicate(source.program)
    scales: Scales = equalize(float_program) if equalized else {}
    quantizer = quantizer_of(request)
    prepared = prepare_pt2e(duplicate(float_program), quantizer)
    check_quantized(request.technique, quantizer.reasons)
    references = float_weights(float_program)
    for done, batch in source.batches():
        report(0.3 * done, "calibrating")
        with torch.no_grad():
            prepared(batch)
    report(0.3, "converting")
    codes = rounded(quantizer.kinds, references, choice_of(request.technique, request.options))
    converted = rewrite(convert_pt2e(prepared), quantizer.kinds, references, codes)
    if improvements and source.calibration is not None:
        refine(converted, float_program, source.calibration, codes, improvements, report)
    model = finish(converted, source, references, quantizer.reasons, path, seed=request.seed, scales=scales)
    if not improvements and not equalized and request.options.get("weight_range") != HALF_QUADRATIC:
        return model
    report(0.8, "rounding plainly, to compare")
    return model.beside(post_training(source, _plainly(request), path.with_name(f"plain-{path.name}"), report))


def _plainly(request: Request) -> Request:
    """The same request without improvements, where half-quadratic ranges are one over the technique's own."""
    plain = {**request.options, **PLAIN}
    if plain.get("weight_range") == HALF_QUADRATIC:
        offered = capability(Backend.PYTORCH, request.technique).options
        plain["weight_range"] = next(option.default for option in offered if option.name == "weight_range")
    return Request(request.technique, plain, request.calibration, request.workdir, request.keep_float)


def choice_of(technique: Technique, options: Options) -> Choice:
    """What the options say about the grids of weights."""
    return Choice(
        group_size=technique.group_size,
        per_channel=bool(options.get("per_channel", True)),
        affine=options["scheme"] == "affine" if "scheme" in options else None,
        fit=str(options.get("weight_range", "minmax")),
        reduce_range=bool(options.get("reduce_range", False)),
    )


def finish(
    program: GraphModule,
    source: Source,
    references: Weights,
    reasons: Mapping[str, str | None],
    path: Path,
    *,
    seed: int,
    scales: Scales,
) -> TorchModel:
    """Saves a converted program, reads it back, looks for kernels that compute with its integers, and describes it."""
    save(strip(program), source.sample, path)
    saved = load_program(path)
    probe = source.calibration[:_PROBE] if source.calibration is not None else _noise(seed, source.sample)
    fused, why = int8_layers(saved, probe)
    execution = Execution.SIMULATED if why else Execution.NATIVE
    return TorchModel(path, execution, why, saved, saved, describe(saved, references, reasons, fused), scales=scales)


def check_weights(weights: Weights) -> None:
    """Makes sure there is something to round.

    Raises:
        BadData: a weight is empty, or holds NaN or infinity.
    """
    for name, weight in weights.items():
        if weight.size == 0:
            raise BadData(f"The weight of {name} is empty: its shape is {weight.shape}.", "Leave the layer out of the model.")
        if not np.isfinite(weight).all():
            raise BadData(f"The weight of {name} holds NaN or infinity.", "Use weights of a training that converged.")


def check_quantized(technique: Technique, reasons: Mapping[str, str | None]) -> None:
    """Makes sure that some layer has no reason to stay in float.

    Raises:
        NothingQuantized: each has one.
    """
    if None not in reasons.values():
        why = (
            "; ".join(dict.fromkeys(str(reason) for reason in reasons.values()))
            or "the model has no convolution or dense layer"
        )
        raise NothingQuantized(f"{technique.code} quantized no layer: {why}.", "Choose another technique for this model.")


def _noise(seed: int, sample: torch.Tensor) -> torch.Tensor:
    return torch.rand((_PROBE, *sample.shape[1:]), generator=torch.Generator().manual_seed(seed))
