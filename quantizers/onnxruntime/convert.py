"""Prepared float model → quantized model: one recipe a mode, by the runtime's tools where they can do it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
from onnx import ModelProto, TensorProto
from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static

from quantizers.adapter import Batch, Report, Request, Step
from quantizers.errors import NothingQuantized, Unsupported
from quantizers.onnxruntime.calibrate import Calibrator, measure_ranges
from quantizers.onnxruntime.graph import masked_softmaxes
from quantizers.onnxruntime.reader import REPLACED_GEMM, WeightedOp
from quantizers.onnxruntime.session import OnnxSession
from quantizers.onnxruntime.weights import Rewriter
from quantizers.schema import Mode, Scheme

if TYPE_CHECKING:
    from quantizers.onnxruntime.improve import OutputRounding

_PRODUCTS = ["MatMul", "Gemm"]
_BLOCKS = (16, 32, 64, 128, 256)
"""Group sizes that MatMulNBits has a kernel for."""
_GROUPS: Mapping[tuple[Mode, str | None], tuple[int | None, ...]] = {
    **{(Mode.WEIGHT_ONLY, weight): (None, *_BLOCKS) for weight in ("i8", "i4", "i2")},
    (Mode.DYNAMIC, "i4"): _BLOCKS,
}
"""Group sizes by mode and type of weights; no groups elsewhere."""
_BY_TOOLS = (Mode.STATIC, Mode.DYNAMIC, Mode.HYBRID, Mode.MIXED)
"""Modes that the runtime's own tools do, which look at the main graph only."""
NEAREST = "nearest"
"""The value of the option `rounding` that needs no samples."""
_TYPES = {"u8": QuantType.QUInt8, "s8": QuantType.QInt8}


@dataclass(frozen=True, eq=False)
class Job:
    """What a recipe works on.

    Attributes:
        prepared: the prepared float model; recipes leave this object as it is.
        path: where the same model lies on disk.
        float_ops: its layers by name, in the model's order.
        samples: checked calibration samples; None for techniques that need none.
        folder: for files that nobody keeps.
        steps: what was done so far, for a person to read; recipes add to it.
    """

    request: Request
    prepared: ModelProto
    path: Path
    float_ops: Mapping[str, WeightedOp]
    samples: Batch | None
    folder: Path
    report: Report
    steps: list[Step]

    @property
    def layers(self) -> list[str]:
        """The layers to quantize."""
        return [name for name in self.float_ops if name not in self.request.keep_float]

    def rewriter(self, model: ModelProto | None = None) -> Rewriter:
        """A rewriter of `model`, which is changed; without one, of a copy of the prepared model."""
        if model is None:
            model = ModelProto()
            model.CopyFrom(self.prepared)
        return Rewriter(model, dict(self.float_ops))


Recipe = Callable[[Job], ModelProto]


def convert(job: Job) -> ModelProto:
    """The quantized model.

    Raises:
        Unsupported: there is no recipe for the technique.
        UnknownName: mixed precision names a layer that the model does not have.
        NothingQuantized: all layers lie where the technique's tool does not look.
    """
    technique = job.request.technique
    recipe = _RECIPES.get((technique.mode, technique.weight, technique.activation))
    if recipe is None or technique.group_size not in _GROUPS.get((technique.mode, technique.weight), (None,)):
        raise Unsupported(
            f"ONNX Runtime has no way to do {technique.code}.", "The technique list says what it has, and why not."
        )
    holders = {op.inside for op in job.float_ops.values()}
    if technique.mode in _BY_TOOLS and technique.group_size is None and None not in holders:
        kinds = ", ".join(sorted(str(kind) for kind in holders))
        what = f"All weights sit inside {kinds}, where the runtime's tools quantize nothing."
        raise NothingQuantized(what, "Weight-only techniques and float16 reach them.")
    return recipe(job)


def _float32(job: Job) -> ModelProto:
    return job.prepared


def _dynamic(job: Job) -> ModelProto:
    """Weights in integers, ranges of activations measured at each inference by DynamicQuantizeLinear, always in uint8."""
    options = job.request.options
    target = job.folder / "dynamic.onnx"

    def quantize(per_channel: bool) -> None:
        quantize_dynamic(
            str(job.path),
            str(target),
            op_types_to_quantize=_PRODUCTS if options.get("op_types", "all") == "dense" else [*_PRODUCTS, "Conv"],
            per_channel=per_channel,
            weight_type=_types(str(options.get("types", "u8s8")))[1],
            nodes_to_exclude=[tool_name for name in job.request.keep_float for tool_name in (name, name + REPLACED_GEMM)],
            extra_options={"DefaultTensorType": TensorProto.FLOAT},
        )

    per_channel = _per_channel_if_possible(job, quantize)
    rewriter = job.rewriter(onnx.load(target))
    for layer in job.layers if per_channel else ():
        rewriter.scale_channels(layer)
    return rewriter.finish()


def _dynamic_blocks(job: Job) -> ModelProto:
    """Dense layers with weights in groups, whose activations are rounded block by block as they run."""
    technique, options, rewriter = job.request.technique, job.request.options, job.rewriter()
    assert technique.weight_bits is not None
    assert technique.group_size is not None
    scheme, fit = Scheme(str(options.get("scheme", Scheme.SYMMETRIC))), str(options.get("weight_range", "minmax"))
    for layer in job.layers:
        rewriter.integer_product(layer, technique.weight_bits, technique.group_size, scheme, fit)
    return rewriter.finish()


def _per_channel_if_possible(job: Job, quantize: Callable[[bool], None]) -> bool:
    """Quantizes with one scale a channel, if asked for; where the tool fails at that, with one a tensor, and says so.

    Returns:
        Whether there is one a channel.
    """
    if not job.request.options.get("per_channel", True):
        quantize(False)
        return False
    try:
        quantize(True)
    except Exception as error:  # the tools raise whatever their steps do
        quantize(False)
        job.steps.append(Step("Scales", f"One a tensor, because one a channel failed: {error}"[:300]))
        return False
    return True


def _static(job: Job) -> ModelProto:
    return _quantize_static(job, *_types(str(job.request.options.get("types", "u8s8"))))


def _static_wide_activations(job: Job) -> ModelProto:
    return _quantize_static(job, QuantType.QInt16, QuantType.QInt8)


def _static_narrow_weights(job: Job) -> ModelProto:
    return _quantize_static(job, QuantType.QUInt8, QuantType.QInt4)


def _quantize_static(job: Job, activation: QuantType, weight: QuantType, exclude: Sequence[str] | None = None) -> ModelProto:
    """Quantizes weights, biases and activations with the runtime's tool, except those of the layers to `exclude`."""
    options = job.request.options
    kept = job.request.keep_float if exclude is None else exclude
    samples = job.samples
    assert samples is not None
    calibrator = Calibrator(str(options.get("calibrator", Calibrator.MINMAX)))
    shared = job.request.shared or job.folder
    ranges, method = measure_ranges(job.path, OnnxSession(job.path).signature, samples, calibrator, shared, job.report)
    job.report(0.75, "Quantizing")
    target = job.folder / "static.onnx"
    dense_only = options.get("op_types", "all") == "dense"
    others = _weightless_products(job) if dense_only else masked_softmaxes(job.prepared)
    if others and not dense_only:
        words = (
            f"{len(others) // 2} softmax operations over masked scores stay in float: the mask would take up the whole range."
        )
        job.steps.append(Step("Attention", words))

    def quantize(per_channel: bool) -> None:
        quantize_static(
            str(job.path),
            str(target),
            calibration_cache_path=ranges,
            op_types_to_quantize=_PRODUCTS if dense_only else None,
            calibrate_method=method,
            quant_format=QuantFormat.QOperator if options.get("format", "qdq") == "qoperator" else QuantFormat.QDQ,
            activation_type=activation,
            weight_type=weight,
            per_channel=per_channel,
            reduce_range=bool(options.get("reduce_range", False)),
            nodes_to_exclude=[*kept, *others],
            extra_options={
                "DefaultTensorType": TensorProto.FLOAT,
                "OpTypesToExcludeOutputQuantization": _PRODUCTS if dense_only else [],
            },
        )
        session = OnnxSession(target)
        session.run(session.prepare(samples[:1]))

    _per_channel_if_possible(job, quantize)
    rewriter = job.rewriter(onnx.load(target))
    for layer in kept:
        rewriter.keep(layer)
    return rewriter.finish()


def _weightless_products(job: Job) -> list[str]:
    """Names of the products of two activations, as attention has them."""
    return [node.name for node in job.prepared.graph.node if node.op_type in _PRODUCTS and node.name not in job.float_ops]


def _weight_only(job: Job) -> ModelProto:
    technique, rewriter = job.request.technique, job.rewriter()
    assert technique.weight_bits is not None
    scheme = Scheme(str(job.request.options.get("scheme", Scheme.SYMMETRIC)))
    fit = str(job.request.options.get("weight_range", "minmax"))
    rounding = _output_rounding(job)
    for done, layer in enumerate(job.layers):
        job.report(0.2 + 0.7 * done / len(job.layers), f"Rounding {layer}")
        rewriter.integers(
            layer, technique.weight_bits, group_size=technique.group_size, scheme=scheme, fit=fit, rounding=rounding
        )
    if rounding is not None:
        job.steps.append(rounding.step)
    return rewriter.finish()


def _output_rounding(job: Job) -> OutputRounding | None:
    """What finds better codes than the nearest, if that is asked for. Its mathematics is torch's, which is slow to load."""
    method = str(job.request.options.get("rounding", NEAREST))
    if method == NEAREST:
        return None
    from quantizers.onnxruntime.improve import OutputRounding

    assert job.samples is not None
    return OutputRounding(method, job.prepared, job.samples)


def _every_layer(change: Callable[[Rewriter, str], None]) -> Recipe:
    """The recipe that does the same to the weights of each layer and leaves the rest of the float model alone."""

    def recipe(job: Job) -> ModelProto:
        rewriter = job.rewriter()
        for layer in job.layers:
            change(rewriter, layer)
        return rewriter.finish()

    return recipe


def _hybrid(job: Job) -> ModelProto:
    """Activations and biases as in static quantization, weights in float16."""
    rewriter = job.rewriter(_quantize_static(job, QuantType.QUInt8, QuantType.QInt8))
    for layer in job.layers:
        rewriter.half(layer)
    return rewriter.finish()


def _mixed(job: Job) -> ModelProto:
    """Weights of each layer in bits of its own, 16 of them float16; the activations of all but float layers in 8 bits."""
    bits = job.request.technique.bits_by_layer(list(job.float_ops))
    kept = [name for name in job.float_ops if not bits[name] or name in job.request.keep_float]
    if len(kept) == len(job.float_ops):
        return job.prepared
    rewriter = job.rewriter(_quantize_static(job, QuantType.QUInt8, QuantType.QInt8, exclude=kept))
    for name in job.float_ops:
        if name in kept or bits[name] == 8:
            continue
        if bits[name] == 16:
            rewriter.half(name)
        else:
            rewriter.integers(name, bits[name], scheme=Scheme.AFFINE if bits[name] == 2 else Scheme.SYMMETRIC)
    return rewriter.finish()


def _types(name: str) -> tuple[QuantType, QuantType]:
    """The types of activations and of weights behind the field's short name, such as "u8s8"."""
    return _TYPES[name[:2]], _TYPES[name[2:]]


_RECIPES: Mapping[tuple[Mode, str | None, str | None], Recipe] = {
    (Mode.FLOAT32, None, None): _float32,
    (Mode.DYNAMIC, "i8", None): _dynamic,
    (Mode.DYNAMIC, "i4", None): _dynamic_blocks,
    (Mode.STATIC, "i8", "i8"): _static,
    (Mode.STATIC, "i8", "i16"): _static_wide_activations,
    (Mode.STATIC, "i4", "i8"): _static_narrow_weights,
    (Mode.WEIGHT_ONLY, "i8", None): _weight_only,
    (Mode.WEIGHT_ONLY, "i4", None): _weight_only,
    (Mode.WEIGHT_ONLY, "i2", None): _weight_only,
    (Mode.FLOAT16, None, None): _every_layer(Rewriter.half),
    (Mode.BINARY, None, None): _every_layer(Rewriter.binary),
    (Mode.TERNARY, None, None): _every_layer(Rewriter.ternary),
    (Mode.HYBRID, "f16", "i8"): _hybrid,
    (Mode.MIXED, None, None): _mixed,
}
"""By mode, type of weights and type of activations."""
