"""NVIDIA's ModelOpt: auto_quantize between weights of 4 and 8 bits, by gradients and by KL divergence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.peers.adapter import CALIBRATION, TORCH, Found, Peer, Task, batches, measured, serve, torch_model

PEER = Peer(
    "modelopt",
    "ModelOpt",
    "benchmarks.peers.modelopt",
    {"gradient": Task.SEARCH, "kl_div": Task.SEARCH},
    (TORCH, "nvidia-modelopt==0.47.0", "requests==2.34.2", "huggingface-hub==2.4.0"),
)
EFFECTIVE_BITS = 6.0
WIDTHS = (4, 8)


def gradient(folder: Path) -> Found:
    """Scores by gradients of the cross-entropy with float's own answers."""
    return _search(folder, "gradient")


def kl_div(folder: Path) -> Found:
    """Scores by KL divergence from float's outputs."""
    return _search(folder, "kl_div")


def _search(folder: Path, method: str) -> Found:
    import modelopt.torch.quantization as mtq  # type: ignore[import-not-found]
    import torch

    model, photos = torch_model(folder), batches(folder, CALIBRATION)
    with torch.inference_mode():
        data = [(batch, model(batch).argmax(1)) for batch in photos]
    formats = [_weights_only(bits) for bits in WIDTHS]

    def work() -> Any:
        return mtq.auto_quantize(
            model,
            constraints={"effective_bits": EFFECTIVE_BITS},
            quantization_formats=formats,
            data_loader=[(batch.clone(), answers.clone()) for batch, answers in data],
            forward_step=lambda module, batch: module(batch[0]),
            loss_func=lambda output, batch: torch.nn.functional.cross_entropy(output, batch[1]),
            num_calib_steps=len(data),
            num_score_steps=len(data),
            method=method,
        )

    (found, _), seconds, peak = measured(work)
    bits = {
        name: int(layer.weight_quantizer.num_bits)
        for name, layer in found.named_modules()
        if hasattr(layer, "weight_quantizer") and layer.weight_quantizer.is_enabled
    }
    return Found(seconds, peak, layers=len(bits), bits=bits, note=f"one target: {EFFECTIVE_BITS:g} bits a weight")


def _weights_only(bits: int) -> dict[str, Any]:
    quantizers = [
        {"quantizer_name": "*", "enable": False},
        {"quantizer_name": "*weight_quantizer", "cfg": {"num_bits": bits, "axis": 0}, "enable": True},
    ]
    return {"quant_cfg": quantizers, "algorithm": "max"}


if __name__ == "__main__":
    serve({"gradient": gradient, "kl_div": kl_div})
