"""What a run's layers say in plain words: where the loss is, what it is made of, and what to try next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from pages._ui import format as fmt
from quantizers.schema import Granularity

Layer = Mapping[str, Any]
MOSTLY_CLIPPING = 0.5
HARMLESS_DB = 40.0
"""From here up the error is at most 1 % of the signal."""
NOTABLY_BETTER_DB = 6.0


@dataclass(frozen=True, slots=True)
class Finding:
    """`layer` is the one the finding is about; None when there is none to point at."""

    text: str
    layer: str | None = None


def weakest(layers: Sequence[Layer]) -> Layer | None:
    """The layer with the lowest output SQNR, or, where no output was compared, with the lowest weight SQNR."""
    for part in ("output", "weight"):
        scored = [layer for layer in layers if _sqnr(layer, part) is not None]
        if scored:
            return min(scored, key=lambda layer: _sqnr(layer, part) or 0.0)
    return None


def find(layers: Sequence[Layer]) -> Finding:
    """The most useful thing to know about a run's layers, in Markdown."""
    worst = weakest(layers)
    if worst is None:
        return Finding("Every layer computes exactly what the float model computes.")
    part = "output" if _sqnr(worst, "output") is not None else "weight"
    levels = [value for layer in layers if (value := _sqnr(layer, part)) is not None]
    text = f"**{worst['name']}** has the lowest {part} SQNR, {fmt.decibels(min(levels))}"
    if len(levels) > 1:
        text += f" (median of the {len(levels)} layers: {fmt.decibels(median(levels))})"
    text += f": its error is {fmt.percent(10 ** (-min(levels) / 20))} of its signal."
    sentences = [text, "" if min(levels) >= HARMLESS_DB else _cause(worst), _left_float(layers)]
    return Finding(" ".join(sentence for sentence in sentences if sentence), worst["name"])


def _cause(layer: Layer) -> str:
    weight, output = layer["weight"], _sqnr(layer, "output")
    share = weight.get("clipping_share")
    if share is not None and share > MOSTLY_CLIPPING:
        return f"{fmt.percent(share, 0)} of its weight error is clipping: the range is too narrow."
    if not layer["quantized"]:
        return "Its own weights are in float, so the error comes from the layers before it."
    own = _sqnr(layer, "weight")
    if own is not None and output is not None and own > output + NOTABLY_BETTER_DB:
        elsewhere = "activations or from earlier layers" if layer["output"].get("scale") else "the layers before it"
        return f"Its weights are at {fmt.decibels(own)}, so most of the error comes from {elsewhere}."
    if weight.get("granularity") == Granularity.PER_TENSOR.value:
        return "One scale serves all its channels; one scale per channel usually helps."
    return "Most of it is the rounding of its weights: this is the layer to keep in float, or to give more bits."


def _left_float(layers: Sequence[Layer]) -> str:
    kept = [layer for layer in layers if not layer["quantized"]]
    if not kept or len(kept) == len(layers):
        return ""
    reasons = "; ".join(dict.fromkeys(layer["why_not"] for layer in kept if layer.get("why_not")))
    return f"{len(kept)} of {len(layers)} layers stay in float" + (f": {reasons}" if reasons else ".")


def _sqnr(layer: Layer, part: str) -> float | None:
    described = layer[part]
    return described.get("sqnr_db") if described else None
