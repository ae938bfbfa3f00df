"""A module run as it is, with hooks on its layers: what each reads is rounded, what each hands on is recorded.

This is the simulator for modules that no graph can be had of. Values are rounded by the operations that a converted graph
holds at the same place. A sample runs by itself, so that samples cannot change each other's way through the module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from quantizers.adapter import Batch
from quantizers.pytorch.graph import decomposed, type_name
from quantizers.schema import QuantParams

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
Change: TypeAlias = Callable[[Tensor], Tensor]
"""What is done to the input of a layer before the layer sees it; it may only look."""


class HookedModule:
    """A module in eval mode with hooks on its layers, for good.

    Attributes:
        layers: convolutions and dense layers by name: in the order of their first call, once the module has run.
        changes: what happens to the input of a layer, by its name; layers left out read what they are given.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.layers = {name: part for name, part in module.named_modules() if isinstance(part, LAYERS)}
        self.changes: Mapping[str, Change] = {}
        self.called: dict[str, list[Batch]] = {}
        """What each layer handed on in the run that was recorded last, a value a call, in the order of calls."""
        self._recording = False
        for name, part in self.layers.items():
            part.register_forward_pre_hook(self._before(name), with_kwargs=True)
            part.register_forward_hook(self._after(name))

    def run(self, x: Tensor) -> Tensor:
        """The module's output for samples [N, …], of which each runs alone."""
        with torch.no_grad():
            return torch.cat([self.module(one) for one in single(x)])

    def record(self, sample: Tensor) -> dict[str, Batch]:
        """What the layers hand on for one sample [1, …], by name; a layer that is called again has all values in a row."""
        self.called = {}
        self._recording = True
        try:
            self.run(sample)
        finally:
            self._recording = False
        return {name: _joined(values) for name, values in self.called.items()}

    def sort(self) -> None:
        """Puts the layers in the order in which the recorded run called them; what it did not call comes last."""
        order = [*self.called, *(name for name in self.layers if name not in self.called)]
        self.layers = {name: self.layers[name] for name in order}

    def _before(self, name: str) -> Callable[..., Any]:
        def change(_layer: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
            if name not in self.changes:
                return None
            if arguments:
                return (self.changes[name](arguments[0]), *arguments[1:]), named
            key = next(iter(named))
            return arguments, {**named, key: self.changes[name](named[key])}

        return change

    def _after(self, name: str) -> Callable[..., None]:
        def keep(_layer: nn.Module, _arguments: Any, output: Tensor) -> None:
            if self._recording:  # a copy: what follows a layer may work in place
                value = output.detach().float().numpy().copy()
                self.called.setdefault(name, []).append(np.moveaxis(value, 1, -1) if value.ndim > 1 else value)

        return keep


def single(x: Tensor) -> list[Tensor]:
    """Samples [N, …] as N of [1, …]."""
    return [x[index : index + 1] for index in range(len(x))]


def static(params: QuantParams) -> Change:
    """Rounds to the grid that calibration found."""
    grid = (float(params.scale[0]), int(params.zero_point[0]), params.qmin, params.qmax, getattr(torch, params.dtype))

    def change(x: Tensor) -> Tensor:
        rounded: Tensor = decomposed.dequantize_per_tensor.default(decomposed.quantize_per_tensor.default(x, *grid), *grid)
        return rounded

    return change


def dynamic(observer: Any) -> Change:
    """Rounds to the grid that the values themselves span; `observer` says which codes there are."""
    codes = (observer.quant_min, observer.quant_max, observer.dtype)

    def change(x: Tensor) -> Tensor:
        scale, zero_point = decomposed.choose_qparams.tensor(x, codes[0], codes[1], observer.eps, codes[2])
        rounded: Tensor = decomposed.dequantize_per_tensor.tensor(
            decomposed.quantize_per_tensor.tensor(x, scale, zero_point, *codes), scale, zero_point, *codes
        )
        return rounded

    return change


def calibrated(observer: Any) -> QuantParams | None:
    """The grid of what an observer of torchao has seen; None when it saw nothing."""
    if not bool(torch.isfinite(observer.min_val).all()):
        return None
    scale, zero_point = observer.calculate_qparams()
    return QuantParams(scale.numpy(), zero_point.numpy(), observer.quant_min, observer.quant_max, type_name(observer.dtype))


def _joined(values: list[Batch]) -> Batch:
    if len(values) == 1:
        return values[0]
    return np.concatenate([value.reshape(1, -1) for value in values], axis=1)
