"""What one would write first: round one layer, evaluate, restore it; whole-array expressions. In our own environment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.peers.adapter import BITS, Found, Peer, Task, batches, layer_name, measured, noise_ratio, serve, torch_model

PEER = Peer(
    "naive",
    "naive",
    "benchmarks.peers.naive",
    {"one_at_a_time": Task.SENSITIVITY, "numpy": Task.WEIGHTS, "torch_eager": Task.WEIGHTS, "torch_compile": Task.WEIGHTS},
)
WIDTHS = range(2, 9)


def one_at_a_time(folder: Path) -> Found:
    """One evaluation of all photos for each layer."""
    import torch
    from torch import nn

    model, photos = torch_model(folder), batches(folder)

    def work() -> dict[str, float]:
        with torch.inference_mode():
            reference = torch.cat([model(batch) for batch in photos]).numpy()
            losses = {}
            for name, layer in model.named_modules():
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    kept = layer.weight.data
                    layer.weight.data = _rounded(kept, BITS)
                    losses[layer_name(name)] = noise_ratio(reference, torch.cat([model(batch) for batch in photos]).numpy())
                    layer.weight.data = kept
        return losses

    losses, seconds, peak = measured(work)
    return Found(seconds, peak, layers=len(losses), ranking=losses, note=f"{len(losses) + 1} passes")


def _rounded(weight: Any, bits: int) -> Any:
    """Symmetric, by the largest value of each output channel."""
    largest = 2 ** (bits - 1) - 1
    scale = weight.abs().flatten(1).amax(1).clamp_min(1e-12).reshape(-1, *[1] * (weight.dim() - 1)) / largest
    return (weight / scale).round().clamp(-largest, largest) * scale


def numpy(_folder: Path) -> Found:
    """The loop that `make bench` compares with."""
    from benchmarks.suite.weight_analysis import _naive, bert_base

    weights = bert_base()
    result, seconds, peak = measured(lambda: [_naive(weight) for weight in weights.values()])
    return Found(seconds, peak, layers=len(result))


def torch_eager(_folder: Path) -> Found:
    """The same expressions in PyTorch."""
    return _in_torch(_errors, "")


def torch_compile(_folder: Path) -> Found:
    """The same, compiled; compiling is part of the first call and told apart in the note."""
    import torch

    return _in_torch(torch.compile(_errors, dynamic=True), "without compiling, which took {:.1f} s")


def _in_torch(errors: Callable[[Any], list[Any]], note: str) -> Found:
    import torch

    from benchmarks.peers.adapter import THREADS
    from benchmarks.suite.weight_analysis import bert_base

    torch.set_num_threads(THREADS)
    weights = [torch.from_numpy(weight) for weight in bert_base().values()]
    shapes = {weight.shape: weight for weight in weights}
    _, warming, _ = measured(lambda: [errors(weight) for weight in shapes.values()])
    result, seconds, peak = measured(lambda: [errors(weight) for weight in weights])
    return Found(seconds, peak, layers=len(result), note=note.format(warming - seconds if note else 0))


def _errors(weight: Any) -> list[Any]:
    """MSE, SQNR and cosine for each granularity and width, as tensors."""
    import torch

    figures = []
    for reach in (weight.abs().amax(), weight.abs().amax(1, keepdim=True)):
        for bits in WIDTHS:
            largest = 2 ** (bits - 1) - 1
            scale = reach / largest
            restored = (weight / scale).round().clamp(-largest, largest) * scale
            noise, signal = (weight - restored).square().mean(), weight.square().mean()
            cosine = (weight * restored).sum() / (weight.square().sum() * restored.square().sum()).sqrt()
            figures += [noise, 10 * torch.log10(signal / noise), cosine]
    return figures


if __name__ == "__main__":
    serve({job.__name__: job for job in (one_at_a_time, numpy, torch_eager, torch_compile)})
