"""AIMET for ONNX: every layer's quantizers enabled alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.peers.adapter import (
    BATCH,
    BITS,
    MODEL_ONNX,
    PHOTOS,
    THREADS,
    TORCH,
    Found,
    Peer,
    Task,
    layer_name,
    measured,
    noise_ratio,
    serve,
)

PEER = Peer(
    "aimet_onnx",
    "AIMET-onnx",
    "benchmarks.peers.aimet_onnx",
    {"enabling_quantizers": Task.SENSITIVITY},
    (TORCH, "aimet-onnx==2.42.0", "onnx==1.23.2", "onnxruntime==1.31.1"),
)


def enabling_quantizers(folder: Path) -> Found:
    """Weights of BITS, activations of 16 bits, so that the ranking is that of the weights."""
    import numpy as np
    import onnx
    from aimet_onnx.batch_norm_fold import fold_all_batch_norms_to_weight  # type: ignore[import-not-found]
    from aimet_onnx.quant_analyzer import analyze_per_layer_sensitivity  # type: ignore[import-not-found]
    from aimet_onnx.quantsim import QuantizationSimModel  # type: ignore[import-not-found]

    photos = np.load(folder / PHOTOS)
    feeds = [{"input": photos[start : start + BATCH]} for start in range(0, len(photos), BATCH)]
    model = onnx.load(folder / MODEL_ONNX)
    fold_all_batch_norms_to_weight(model)
    reference: list[Any] = []
    evaluations = []

    def evaluate(session: Any) -> float:
        output = np.concatenate([session.run(None, feed)[0] for feed in feeds])
        evaluations.append(len(output))
        return noise_ratio(reference[0], output)

    def work() -> dict[str, float]:
        import onnxruntime

        options = {"intra_op_num_threads": THREADS}
        session_options = onnxruntime.SessionOptions()
        session_options.intra_op_num_threads = THREADS
        session = onnxruntime.InferenceSession(folder / MODEL_ONNX, session_options)
        reference.append(np.concatenate([session.run(None, feed)[0] for feed in feeds]))
        sim = QuantizationSimModel(model, param_type=f"int{BITS}", activation_type="int16", session_options_kwargs=options)
        sim.compute_encodings(feeds)
        losses: dict[str, float] = analyze_per_layer_sensitivity(sim, evaluate)
        return losses

    losses, seconds, peak = measured(work)
    ranking = {layer_name(name): loss for name, loss in losses.items()}
    return Found(seconds, peak, layers=len(losses), ranking=ranking, note=f"{len(evaluations)} evaluations")


if __name__ == "__main__":
    serve({"enabling_quantizers": enabling_quantizers})
