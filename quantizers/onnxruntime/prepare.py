"""What comes before quantizing, in steps that are kept for a person to read: each says what it did, or why it was left out.

A model of any origin is brought to one opset, its weights to where the tools look for them, and through the runtime's own
preprocessing, which folds batch norms into convolutions and infers shapes. Its symbolic shape inference is left out: it fails
on many real models, and the plain one is enough for what is quantized here.

Source: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html#pre-processing
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, version_converter
from onnxruntime.quantization import quant_pre_process

from quantizers.adapter import Batch, Step
from quantizers.errors import ConversionFailed, NothingQuantized
from quantizers.onnxruntime.reader import WeightedOp, read
from quantizers.onnxruntime.scopes import inner, lift, make_unique, separate_biases, walk
from quantizers.onnxruntime.session import OnnxSession
from quantizers.signature import Signature

OPSET = 21
"""The first that stores 4-bit and 16-bit integers and scales per block (DequantizeLinear-21)."""
_ENOUGH = 13
"""The first with scales per channel."""
_IR_VERSION = 10
_WEIGHTLESS = {"Conv", "Gemm", "MatMul", "ConvTranspose", "LSTM", "GRU", "RNN", "Gather", "Attention"}
_NOTABLE = 0.05
"""Growth of a file that is worth a word."""
_COMPARED = 1e-3
"""How far the prepared model's output may lie from the original's, as a share of the largest value."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A float model ready to be quantized, which also lies on disk, with its layers and the steps that led to it.

    Attributes:
        noise: random numbers [1, …] that it computes finite ones on; None for models that refuse what they do not expect.
    """

    model: ModelProto
    ops: tuple[WeightedOp, ...]
    steps: tuple[Step, ...]
    noise: Batch | None


def prepare(model: ModelProto, path: Path) -> Prepared:
    """Prepares a model, which is changed, and leaves the result at `path`.

    Raises:
        NothingQuantized: there is no convolution and no dense layer with a constant weight.
        ConversionFailed: the runtime cannot load the model, or a weight holds NaN or infinity.
    """
    original = _outputs(model)
    steps = [_upgrade(model), _lift(model, last=False)]
    steps.append(_optimize(model, path))
    steps.append(_lift(model, last=True))
    steps.append(_compare(original, model))
    onnx.save(model, path)
    ops = tuple(read(model))
    if not ops:
        raise NothingQuantized("The model has no convolution and no dense layer with a constant weight.", _what_instead(model))
    for op in ops:
        constants = [tensor.data for tensor in (op.weight, op.bias) if tensor is not None and tensor.data is not None]
        if not all(np.isfinite(values).all() for values in constants):
            raise ConversionFailed(f"The weights of {op.name} hold NaN or infinity.", "Train the model again.")
    return Prepared(model, ops, tuple(steps), None if original is None else _noise(OnnxSession(path).signature))


def _upgrade(model: ModelProto) -> Step:
    """Raises the opset, and gives every node a name."""
    name = "Opset"
    renamed = make_unique(model)
    names = f"; {renamed} nodes were given a name of their own" if renamed else ""
    present = next((opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")), None)
    if present is None:
        return Step(name, f"The model uses none of the standard's operations{names}.")
    if present >= OPSET:
        return Step(name, f"{present}, which is new enough{names}.")
    reason = ""
    for target in (OPSET, _ENOUGH):
        if present >= target:
            break
        try:
            _replace(model, version_converter.convert_version(model, target))
        except Exception as error:  # the converter raises its own kinds, and plain RuntimeErrors
            reason = _first_line(error)
        else:
            model.ir_version = max(model.ir_version, _IR_VERSION)
            make_unique(model)
            return Step(name, f"Raised from {present} to {target}{names}.")
    return Step(name, f"Left at {present}, because it cannot be raised: {reason}{names}.")


def _lift(model: ModelProto, *, last: bool) -> Step:
    moved, copied = lift(model), separate_biases(model) if last else 0
    words = [f"{moved} constants were moved to the model's list of weights"] if moved else []
    words += [f"{copied} layers that shared a bias got one of their own"] if copied else []
    return Step("Weights", f"{'; '.join(words) or 'All in their place'}.")


def _optimize(model: ModelProto, path: Path) -> Step:
    """The runtime's preprocessing, with less and less of it until it succeeds."""
    name = "Preprocessing"
    source = path.with_suffix(".source.onnx")
    onnx.save(model, source)
    reason = ""
    for words, options in (("Folded and simplified", {}), ("Not simplified", {"skip_optimization": True})):
        try:
            with _errors_as_exceptions():
                quant_pre_process(str(source), str(path), skip_symbolic_shape=True, **options)
            OnnxSession(path)
            before = len(model.graph.node)
            _replace(model, onnx.load(path))
            make_unique(model)
        except Exception as error:  # whatever the runtime and the standard's library raise
            reason = reason or f" ({_first_line(error)})"
        else:
            grew = path.stat().st_size / source.stat().st_size - 1
            size = f"; the file grew by {grew:.0%}, because constants are computed in advance" if grew > _NOTABLE else ""
            return Step(name, f"{words}: {before} nodes became {len(model.graph.node)}{size}{reason}.")
    OnnxSession(source)  # If not even the model as it came can be loaded, this says why.
    return Step(name, f"Left out{reason}.")


def _compare(original: np.ndarray | None, model: ModelProto) -> Step:
    """Makes sure that preparing changed nothing."""
    name = "Check"
    prepared = _outputs(model)
    if original is None or prepared is None:
        return Step(name, "Not compared with the original, which computes no finite numbers on random ones.")
    if original.shape != prepared.shape:
        raise ConversionFailed("Preparing the model changed the shape of its output.", "Export it in a newer opset.")
    largest = float(np.abs(original).max())
    difference = float(np.abs(original - prepared).max())
    if difference > _COMPARED * max(largest, 1e-6):
        what = f"Preparing the model changed its output by {difference:.3g}, where the largest value is {largest:.3g}."
        raise ConversionFailed(what, "Export it in a newer opset.")
    return Step(name, f"The same output as the original's: they differ by {difference:.2g} at most, of {largest:.3g}.")


def _outputs(model: ModelProto) -> np.ndarray | None:
    """The output on one sample of noise; None when it holds NaN or infinity, or noise is refused."""
    session = OnnxSession(model.SerializeToString())
    try:
        output = session.run(session.prepare(_noise(session.signature)))
    except Exception:  # the runtime's own kinds of errors have no common base
        return None
    return output if output.size and np.isfinite(output).all() else None


def _noise(signature: Signature) -> Batch:
    """One sample. Not of zeros, which is a text without a word to those who take a mask."""
    return np.random.default_rng(0).random((1, *signature.sample_shape), np.float32)


def _what_instead(model: ModelProto) -> str:
    """What there is in place of layers with constant weights."""
    present = sorted({node.op_type for node in walk(model.graph)} & _WEIGHTLESS)
    holders = sorted({node.op_type for node in model.graph.node if any(True for _ in inner(node))})
    inside = f" Parts of it sit inside {', '.join(holders)}." if holders else ""
    return f"It has {', '.join(present) or 'no operation that holds weights'}, with weights of another kind.{inside}"


def _replace(model: ModelProto, other: ModelProto) -> None:
    layout = list(model.metadata_props)
    model.CopyFrom(other)
    known = {entry.key for entry in model.metadata_props}
    model.metadata_props.extend(entry for entry in layout if entry.key not in known)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]


class _Raise(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise ConversionFailed(record.getMessage())


@contextmanager
def _errors_as_exceptions() -> Iterator[None]:
    """Preprocessing only logs that it could not optimize a model, and goes on with the model as it was."""
    logger = logging.getLogger("onnxruntime.quantization.shape_inference")
    handler = _Raise(logging.ERROR)
    logger.addHandler(handler)
    propagate, logger.propagate = logger.propagate, False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate


def save(model: ModelProto, path: Path) -> None:
    """Writes the artefact without what only the tools needed: intermediate shapes and opsets that no operation uses."""
    del model.graph.value_info[:]
    used = {node.domain for node in walk(model.graph)}
    unused = [opset for opset in model.opset_import if opset.domain not in used | {""}]
    for opset in unused:
        model.opset_import.remove(opset)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def compare_size(before: Path, after: Path) -> Step:
    """What became of the file's size; a small model can grow, because scales and types take more than its weights give."""
    old, new = before.stat().st_size, after.stat().st_size
    words = "smaller by" if new < old else "LARGER by" if new > old else "as large as before,"
    return Step("Size", f"{old:,} bytes became {new:,}: {words} {abs(1 - new / old):.0%}.")
