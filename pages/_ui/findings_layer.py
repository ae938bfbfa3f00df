"""What one layer of a run says in plain words, each sentence from figures that the run has: absent ones say nothing. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pages._ui import format as fmt
from pages._ui.inspector_charts import Channels

Layer = Mapping[str, Any]
APART_DB = 3.0
"""dB: twice the noise. What is closer is called alike."""
FEW_LEVELS = 0.5
PLAINLY_WIDER = 3.0
"""A channel is worth a sentence when its range is this many times the median channel's."""


def shares(layers: Sequence[Layer]) -> dict[str, float]:
    """Each layer's part of the noise that the layers add by themselves: of the sum of noise ÷ signal of their isolated outputs.

    Empty when the run does not know the isolated error of every quantized layer.
    """
    noise = {}
    for layer in layers:
        if not layer["quantized"]:
            continue
        report = (layer.get("isolated") or {}).get("both") or (layer.get("isolated") or {}).get("weight_only")
        if report is None:
            return {}
        sqnr = report["sqnr_db"]
        noise[layer["name"]] = 0.0 if sqnr is None else 10 ** (-sqnr / 10)
    total = sum(noise.values())
    return {name: one / total for name, one in noise.items()} if total else {}


def explain(layer: Layer, layers: Sequence[Layer], channels: Channels | None) -> list[str]:
    """Sentences in Markdown about a layer among `layers` of its run, the most telling first."""
    found = [
        headline(layer, layers, channels),
        _by_what(layer),
        _inherited(layer),
        _split(layer),
        _levels(layer),
    ]
    return [sentence for sentence in found if sentence]


def headline(layer: Layer, layers: Sequence[Layer], channels: Channels | None) -> str:
    """How much of the error this layer adds, and the channel that sticks out: "conv1 is 61 % of …; its channel 7 has 12× …"."""
    share = shares(layers).get(layer["name"])
    widest = _widest(channels) if channels is not None else None
    if share is None:
        return f"Of **{layer['name']}**, {widest}." if widest else ""
    words = f"**{layer['name']}** is {fmt.percent(share, 0)} of the error that the layers add by themselves"
    return f"{words}; its {widest}." if widest else f"{words}."


def _widest(channels: Channels) -> str | None:
    middle = float(np.median(channels.reach))
    number = int(np.argmax(channels.reach))
    times = float(channels.reach[number]) / middle if middle else np.inf
    if not PLAINLY_WIDER <= times < np.inf:
        return None
    return f"channel {number} has {fmt.number(times, 2)}× the median range"


def _by_what(layer: Layer) -> str:
    """Whether weights or activations cost more, when each is quantized alone."""
    isolated = layer.get("isolated") or {}
    weight, activation = (_sqnr(isolated.get(kind)) for kind in ("weight_only", "activation_only"))
    if weight is None or activation is None:
        return ""
    figures = f"{fmt.decibels(weight)} with only its weights quantized, {fmt.decibels(activation)} with only its activations"
    if abs(weight - activation) < APART_DB:
        return f"Weights and activations cost about the same: {figures}."
    return f"Its {'weights' if weight < activation else 'activations'} cost more: {figures}."


def _inherited(layer: Layer) -> str:
    """Whether the error of its output is its own or comes from the layers before."""
    own, all_in_all = _sqnr((layer.get("isolated") or {}).get("both")), _sqnr(layer.get("output"))
    if own is None or all_in_all is None:
        return ""
    figures = f"{fmt.decibels(own)} by itself, {fmt.decibels(all_in_all)} after all layers before it"
    if own - all_in_all < APART_DB:
        return f"The error of its output is mostly its own: {figures}."
    return f"Most of the error of its output comes from the layers before it: {figures}."


def _split(layer: Layer) -> str:
    share = layer["weight"].get("clipping_share")
    if share is None:
        return ""
    return f"Of its weights' error, {fmt.percent(1 - share, 0)} is rounding and {fmt.percent(share, 0)} clipping."


def _levels(layer: Layer) -> str:
    used = layer["weight"].get("levels_used")
    if used is None or used >= FEW_LEVELS:
        return ""
    return f"Its weights use only {fmt.percent(used, 0)} of their integer levels: a narrower range would round finer."


def _sqnr(report: Layer | None) -> float | None:
    return report.get("sqnr_db") if report else None
