"""Sensitivity estimated with one backward pass, whatever the number of layers and widths.

To first order, rounding a layer's weight by δW changes the output of a sample by J·δ with δ = conv(x, δW), x what the layer
reads and J the derivative of the output by the layer's. For a random direction v of signs (Hutchinson 1989), E⟨v, Jδ⟩² = ‖Jδ‖²:
the expected squared projection of δ on g = Jᵀv, which backpropagation gives for all layers at once, is the squared error of the
output. With v the gradient of the log-likelihood of an answer drawn from the model's own softmax it is twice the KL divergence
to second order (the Fisher information, Martens 2020, arXiv:1412.1193). Projections are taken per sample, before squaring: the
mean over samples stands in for the mean over directions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from benchmarks.engine import Engine, Layer, laid_out
from benchmarks.sensitivity.report import Metric

Deltas = Mapping[str, Tensor]
"""Changes of each layer's weight, [widths, *weight], by layer name."""


def estimate(engine: Engine, deltas: Deltas, metric: Metric, batches: Iterable[Tensor], seed: int) -> dict[str, list[float]]:
    """The loss of every layer, in the order of its changes: the noise-to-signal ratio of the output, or KL in nats."""
    generator = torch.Generator().manual_seed(seed)
    projector = _Projector(engine, deltas)
    sums = {name: torch.zeros(len(delta), dtype=torch.float64) for name, delta in deltas.items()}
    signal, samples = 0.0, 0
    for batch in batches:
        output = projector.run(batch)
        scalar = _fisher(output, generator) if metric is Metric.KL else _projection(output, generator)
        torch.autograd.backward(scalar)
        for name, projections in projector.taken().items():
            sums[name] += projections.double().square().sum(1)
        signal += float(output.detach().double().square().sum())
        samples += len(batch)
    scale = 2.0 * samples if metric is Metric.KL else signal
    return {name: (total / scale).tolist() for name, total in sums.items()}


def _projection(output: Tensor, generator: torch.Generator) -> Tensor:
    signs = torch.randint(0, 2, output.shape, generator=generator) * 2 - 1
    return (output * signs).sum()


def _fisher(output: Tensor, generator: torch.Generator) -> Tensor:
    rows = output.flatten(1)
    answers = torch.multinomial(rows.detach().softmax(1), 1, generator=generator).squeeze(1)
    return functional.cross_entropy(rows, answers, reduction="sum")


class _Projector(fx.Interpreter):
    """Runs the graph so that a backward pass projects every layer's perturbation, and forgets what the layer read."""

    def __init__(self, engine: Engine, deltas: Deltas) -> None:
        super().__init__(engine.graph_module)
        self._layers = {layer.name: layer for layer in engine.layers}
        self._deltas = deltas
        self._taken: dict[str, Tensor] = {}

    def taken(self) -> dict[str, Tensor]:
        """Projections [widths, N] by layer since this was last asked."""
        taken, self._taken = self._taken, {}
        return taken

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        output = super().call_module(target, args, kwargs)
        if target not in self._layers:
            return output
        if not output.requires_grad:  # the first layer: what it reads needs no gradient, and its copy may change in place
            output = output.requires_grad_().clone()
        layer, read = self._layers[target], [args[0].detach()]

        def project(gradient: Tensor) -> None:
            # Popped, because the graph would hold on to what every layer read until the last gradient is known.
            projections = _project(layer, read.pop(), laid_out(gradient), self._deltas[target])
            self._taken[target] = self._taken[target] + projections if target in self._taken else projections

        output.register_hook(project)
        return output


def _project(layer: Layer, source: Tensor, gradient: Tensor, deltas: Tensor) -> Tensor:
    """⟨gradient, layer(source; δW)⟩ per width and sample, [widths, N]."""
    with torch.no_grad():
        module = layer.module
        if isinstance(module, nn.Linear) and source.dim() == 2:
            return torch.stack([((source @ delta.T) * gradient).sum(1) for delta in deltas])
        if isinstance(module, nn.Linear):
            return _by_weight_gradient(source.flatten(1, -2), gradient.flatten(1, -2), deltas)
        if isinstance(module, nn.Conv2d) and _is_pointwise(module):
            return _by_weight_gradient(_positions(source), _positions(gradient), deltas)
        return torch.stack([_dot(_perturbation(layer, source, delta), gradient) for delta in deltas])


def _is_pointwise(module: nn.Conv2d) -> bool:
    whole = (module.kernel_size, module.stride, module.padding, module.groups) == ((1, 1), (1, 1), (0, 0), 1)
    return whole and type(module) is nn.Conv2d


def _positions(images: Tensor) -> Tensor:
    """[N, C, H, W], channels last in memory, as [N, H·W, C] without a copy."""
    return images.permute(0, 2, 3, 1).flatten(1, 2)


def _by_weight_gradient(source: Tensor, gradient: Tensor, deltas: Tensor) -> Tensor:
    """Through the weight gradient of each sample, which serves all widths at once."""
    by_sample = torch.bmm(gradient.mT, source).flatten(1)
    return deltas.flatten(1) @ by_sample.T


def _dot(left: Tensor, right: Tensor) -> Tensor:
    """Scalar product of each sample, over memory in its own order and without a temporary."""
    first, second = (x.movedim(1, -1).reshape(len(x), -1) for x in (left, right))
    products: Tensor = torch.linalg.vecdot(first, second)
    return products


def _perturbation(layer: Layer, source: Tensor, delta: Tensor) -> Tensor:
    module = layer.module
    own = {"weight": delta} | ({"bias": torch.zeros_like(module.bias)} if isinstance(module.bias, Tensor) else {})
    result: Tensor = torch.func.functional_call(module, own, (source,))
    return result
