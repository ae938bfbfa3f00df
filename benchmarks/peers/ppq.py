"""PPQ's graph-wise error analysis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.peers.adapter import CALIBRATION, MODEL_ONNX, TORCH, Found, Peer, Task, batches, measured, serve

PEER = Peer(
    "ppq",
    "PPQ graph-wise",
    "benchmarks.peers.ppq",
    {"graphwise_error_analyse": Task.ACTIVATIONS},
    (TORCH, "ppq==0.6.6", "onnx==1.16.2", "protobuf==3.20.3", "numpy==1.26.4", "setuptools==80.9.0"),
)
OPSET, IR_VERSION = 13, 8
"""The newest that its parser documents."""


def graphwise_error_analyse(folder: Path) -> Found:
    """Signal-to-noise of every operation's output, calibration not counted."""
    import onnx
    import torch
    from ppq import TargetPlatform  # type: ignore[import-not-found]
    from ppq.api import quantize_onnx_model  # type: ignore[import-not-found]
    from ppq.quantization.analyse import graphwise_error_analyse as analyse  # type: ignore[import-not-found]

    from benchmarks.peers.adapter import THREADS

    torch.set_num_threads(THREADS)
    path = folder / "ppq.onnx"
    model = onnx.load(folder / MODEL_ONNX)
    # The model's operations on float32 mean the same in both versions; only the label keeps the parser from reading it.
    model.opset_import[0].version, model.ir_version = OPSET, IR_VERSION
    onnx.checker.check_model(model)
    onnx.save(model, path)
    photos = batches(folder)
    # Its calibration refuses fewer than eight steps.
    calibration = [part for batch in batches(folder, CALIBRATION) for part in batch.split(len(batch) // 2)]
    graph = quantize_onnx_model(
        str(path), calibration, len(calibration), list(photos[0].shape), TargetPlatform.PPL_CUDA_INT8, device="cpu"
    )

    def work() -> Any:
        return analyse(graph, "cpu", photos, steps=len(photos), verbose=False)

    found, seconds, peak = measured(work)
    return Found(seconds, peak, layers=len(found))


if __name__ == "__main__":
    serve({"graphwise_error_analyse": graphwise_error_analyse})
