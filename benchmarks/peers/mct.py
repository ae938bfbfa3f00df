"""Sony's Model Compression Toolkit: XQuant's report, and mixed precision for one target size."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.peers.adapter import BATCH, CALIBRATION, TORCH, Found, Peer, Task, batches, measured, serve, torch_model

PEER = Peer(
    "mct",
    "MCT",
    "benchmarks.peers.mct",
    {"xquant": Task.ACTIVATIONS, "mixed_precision": Task.SEARCH},
    (TORCH, "model-compression-toolkit==2.6.1", "requests==2.34.2", "pillow==13.0.0"),
    ("torchvision==0.21.0",),
)
SHARE = 0.75
"""Of the bytes of all weights at 8 bits: the target size."""


def _toolkit() -> Any:
    """The library, which imports torchvision ≥ 0.18 without using it here.

    PyPI has torchvision's compiled operators for CUDA alone. Without them its import fails on the one whose shapes it
    describes: declaring that is enough, and calling it would fail.
    """
    import torch

    torch.library.define("torchvision::nms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import model_compression_toolkit  # type: ignore[import-not-found]
    import model_compression_toolkit.xquant  # type: ignore[import-not-found]

    return model_compression_toolkit


def _calibration(folder: Path) -> Any:
    photos = batches(folder, CALIBRATION)

    def generate() -> Iterator[list[Any]]:
        yield from ([batch] for batch in photos)

    return generate


def xquant(folder: Path) -> Found:
    """Similarities of every layer it compares, quantizing not counted."""
    mct = _toolkit()
    model, calibration, photos = torch_model(folder), _calibration(folder), batches(folder)
    quantized, _ = mct.ptq.pytorch_post_training_quantization(model, calibration)

    def validation() -> Iterator[tuple[list[Any], None]]:
        yield from (([batch], None) for batch in photos)

    config = mct.xquant.XQuantConfig(report_dir=str(folder / "xquant"))
    found, seconds, peak = measured(
        lambda: mct.xquant.xquant_report_pytorch_experimental(model, quantized, calibration, validation, config)
    )
    layers = max(len(found[key]) for key in found if key.startswith("intermediate"))
    return Found(seconds, peak, layers=layers, note="representative and validation photos")


def mixed_precision(folder: Path) -> Found:
    """Widths of the weights within one target size, calibration included because the search is part of it."""
    import torch

    mct = _toolkit()
    model, calibration = torch_model(folder), _calibration(folder)
    weights = [layer.weight for layer in model.modules() if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear)]
    target = mct.core.ResourceUtilization(weights_memory=SHARE * sum(weight.numel() for weight in weights))
    options = mct.core.MixedPrecisionQuantizationConfig(num_of_images=4 * BATCH)
    config = mct.core.CoreConfig(mixed_precision_config=options)
    (quantized, _), seconds, peak = measured(
        lambda: mct.ptq.pytorch_post_training_quantization(model, calibration, target, config)
    )
    bits = {
        name: int(next(iter(layer.weights_quantizers.values())).num_bits)
        for name, layer in quantized.named_modules()
        if getattr(layer, "weights_quantizers", None)
    }
    return Found(seconds, peak, layers=len(bits), bits=bits, note="one target size")


if __name__ == "__main__":
    serve({"xquant": xquant, "mixed_precision": mixed_precision})
