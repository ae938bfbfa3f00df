"""Sensitivity measured: the model runs with one layer rounded at a time, each time only from that layer on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from benchmarks.engine import Engine, Prefix
from benchmarks.sensitivity.output_error import OutputError
from benchmarks.sensitivity.report import Losses

Key = tuple[str, int]
"""A layer's name and bits."""


def measure(
    engine: Engine, rounded: Mapping[Key, Tensor], labels: Tensor | None, batches: Iterable[Tensor]
) -> dict[Key, Losses]:
    """The losses of every layer and width of `rounded`.

    Args:
        rounded: weights as their codes stand for them.
        labels: of all samples of `batches` in their order.
    """
    layers = {layer.name: layer for layer in engine.layers}
    errors = {key: OutputError() for key in rounded}
    done = 0
    for batch in batches:
        prefix = Prefix(engine, batch)
        own = None if labels is None else labels[done : done + len(batch)]
        with torch.inference_mode():
            for (name, bits), weight in rounded.items():
                errors[name, bits].add(prefix.output, prefix.resume(layers[name], weight), own)
        done += len(batch)
    return {key: error.losses() for key, error in errors.items()}
