"""AIMET for PyTorch: every layer's quantizers enabled alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.peers.adapter import (
    BITS,
    OLD_TORCHVISION,
    TORCH,
    Found,
    Peer,
    Task,
    batches,
    layer_name,
    measured,
    noise_ratio,
    serve,
    torch_model,
)

PEER = Peer(
    "aimet_torch",
    "AIMET-torch",
    "benchmarks.peers.aimet_torch",
    {"enabling_quantizers": Task.SENSITIVITY},
    (TORCH, "aimet-torch==2.42.0"),
    (OLD_TORCHVISION,),
)


def enabling_quantizers(folder: Path) -> Found:
    """Weights of BITS, activations of 16 bits, so that the ranking is that of the weights."""
    import torch
    from aimet_torch.batch_norm_fold import fold_all_batch_norms  # type: ignore[import-not-found]
    from aimet_torch.common.defs import CallbackFunc, QuantScheme  # type: ignore[import-not-found]
    from aimet_torch.model_preparer import prepare_model  # type: ignore[import-not-found]
    from aimet_torch.quant_analyzer import QuantAnalyzer  # type: ignore[import-not-found]

    model, photos = prepare_model(torch_model(folder)), batches(folder)
    fold_all_batch_norms(model, None, dummy_input=photos[0][:1])

    def outputs(module: Any, _: None = None) -> Any:
        with torch.inference_mode():
            return torch.cat([module(batch) for batch in photos]).numpy()

    def work() -> dict[str, float]:
        reference = outputs(model)
        calibrate = CallbackFunc(outputs)
        analyzer = QuantAnalyzer(model, photos[0][:1], calibrate, lambda module: noise_ratio(reference, outputs(module)))
        sim = analyzer._create_quantsim_and_encodings(QuantScheme.min_max, BITS, 16, None)
        losses: dict[str, float] = analyzer.perform_per_layer_analysis_by_enabling_quant_wrappers(sim, str(folder))
        return losses

    losses, seconds, peak = measured(work)
    ranking = {layer_name(name): loss for name, loss in losses.items()}
    return Found(seconds, peak, layers=len(losses), ranking=ranking, note=f"{len(losses)} evaluations")


if __name__ == "__main__":
    serve({"enabling_quantizers": enabling_quantizers})
