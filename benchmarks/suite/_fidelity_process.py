"""One side of `fidelity_cost` in a process of its own: `python -m benchmarks.suite._fidelity_process SIDE FOLDER`."""

from __future__ import annotations

import json
import pickle
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import _memory
from benchmarks.outputs import LayerOutputs
from models import datasets, zoo
from quantizers import registry
from quantizers.adapter import Batch, QuantizedModel, Request
from quantizers.capabilities import resolve_options
from quantizers.numerics import tensor_error
from quantizers.schema import Backend, Technique

MODEL, DATA, SAMPLES, CALIBRATION, BATCH = "efficientnet-lite0", "photos", 64, 32, 4
FLOAT, INT8 = "float32", "static_wi8_ai8"
THREADS = 2


def main(side: str, folder: Path) -> None:
    """Prints one JSON document as its last line."""
    print(json.dumps({"prepare": _prepare, "ours": _ours, "loss_debug": _loss_debug}[side](folder)))


def _prepare(folder: Path) -> dict[str, Any]:
    """Both files, the described models, and the photos, in `folder`."""
    model, data = zoo.load(MODEL), datasets.load(DATA)
    calibration = model.info.preprocess(data.split("calibration").take(CALIBRATION).x)
    np.save(folder / "photos.npy", model.info.preprocess(data.split("test").take(SAMPLES).x))
    for code in (FLOAT, INT8):
        technique, workdir = Technique.parse(code), folder / code
        workdir.mkdir()
        samples = calibration if technique.needs_calibration else None
        request = Request(technique, resolve_options(Backend.ONNXRUNTIME, technique, {}), samples, workdir)
        quantized = registry.get(Backend.ONNXRUNTIME).quantize(model, request, lambda _fraction, _words: None)
        vars(quantized).pop("_session", None)
        vars(quantized).pop("_observed", None)
        (folder / f"{code}.pickle").write_bytes(pickle.dumps(quantized))
    return {}


def _ours(folder: Path, threads: int = THREADS) -> dict[str, Any]:
    photos, baseline, candidate = np.load(folder / "photos.npy"), _load(folder, FLOAT), _load(folder, INT8)
    batches = [photos[start : start + BATCH] for start in range(0, SAMPLES, BATCH)]
    outputs = LayerOutputs(candidate.layers(), threads)
    outputs.add(baseline.activations(batches[0]), candidate.activations(batches[0]))  # loads the models, compiles the loops
    forward = _seconds(lambda: [model.predict(batch) for batch in batches for model in (baseline, candidate)])
    outputs = LayerOutputs(candidate.layers(), threads)

    def compare() -> None:
        for batch in batches:
            outputs.add(baseline.activations(batch), candidate.activations(batch))
        reports.extend(outputs.reports())

    reports: list[Any] = []
    held = _memory.resident_bytes()
    _memory.forget_peak()
    seconds = _seconds(compare)
    return {
        "seconds": seconds,
        "forward_seconds": forward,
        "bytes": _memory.peak_bytes() - held,
        "layers": len(reports),
        "sqnr_db": reports[-1].output.sqnr_db,
    }


def _load(folder: Path, code: str) -> QuantizedModel:
    # Written by `_prepare` a moment ago, into a folder of this benchmark's own.
    model: QuantizedModel = pickle.loads((folder / f"{code}.pickle").read_bytes())  # noqa: S301
    return model


def _loss_debug(folder: Path, threads: int = THREADS) -> dict[str, Any]:
    """The four steps of the runtime's documented use (onnxruntime.quantization.qdq_loss_debug)."""
    from onnxruntime import SessionOptions
    from onnxruntime.quantization import qdq_loss_debug as debug

    photos = np.ascontiguousarray(np.moveaxis(np.load(folder / "photos.npy"), -1, 1))
    models = {code: _load(folder, code).path for code in (FLOAT, INT8)}
    options = SessionOptions()
    options.intra_op_num_threads = threads
    for code, path in models.items():
        debug.modify_model_output_intermediate_tensors(path, folder / f"{code}-debug.onnx")
    for code in models:  # loads the runtime and the models
        debug.collect_activations(str(folder / f"{code}-debug.onnx"), _feeds(photos[:BATCH]), options)
    errors: dict[str, Any] = {}

    def compare() -> None:
        found = {
            code: debug.collect_activations(str(folder / f"{code}-debug.onnx"), _feeds(photos), options) for code in models
        }
        errors.update(debug.compute_activation_error(debug.create_activation_matching(found[INT8], found[FLOAT])))

    held = _memory.resident_bytes()
    _memory.forget_peak()
    seconds = _seconds(compare)
    logits = [_predict(path, photos) for path in models.values()]
    return {
        "seconds": seconds,
        "bytes": _memory.peak_bytes() - held,
        "layers": len(errors),
        "sqnr_db": tensor_error(logits[0], logits[1]).sqnr_db,
    }


def _predict(path: Path, photos: Batch) -> Batch:
    from quantizers.onnxruntime.session import OnnxSession

    session = OnnxSession(path, THREADS)
    return np.concatenate([session.run(feeds) for feeds in _feeds(photos)])


def _feeds(photos: Batch) -> list[dict[str, Batch]]:
    """The photos batch by batch, under the name of the models' input."""
    return [{"input": photos[start : start + BATCH]} for start in range(0, len(photos), BATCH)]


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
