"""What a sensitivity analysis and a frontier say: which layers cost most, in words and in order. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from benchmarks.sensitivity.report import Metric, Mode, sqnr_db
from experiments.analysis import FRONTIER_BITS, MIXED_BITS, AnalysisSpec, FrontierOptions
from experiments.frontier import Objective
from pages._ui import format as fmt

Document = Mapping[str, Any]
METRIC_TITLES = {Metric.SQNR: "Output error (SQNR)", Metric.KL: "KL of the answers", Metric.DROP: "Accuracy drop"}
LOSS_TITLES = {
    Metric.SQNR: "Noise ÷ signal at the model's output",
    Metric.KL: "KL divergence from float's answers (nats)",
    Metric.DROP: "Accuracy lost (points)",
}
METRIC_MEANINGS = (
    "**SQNR**: power of the float output over that of its error.  \n**KL**: how far the answers' probabilities move, in nats."
    "  \n**Accuracy drop**: top-1 points lost; needs labels, and cannot be estimated by the fast mode."
)
MODE_MEANINGS = {
    Mode.FAST: "estimates all layers at once from gradients",
    Mode.BALANCED: "runs the model once a layer and width, on a quarter of the samples",
    Mode.EXACT: "does so on all samples",
}
WELL_RANKED = 0.9
NEARLY_ALL = 0.9
ENOUGH_LAYERS = 5
"""With fewer a rank correlation says little."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a person asks of both analyses of a model."""

    model: str
    data: str
    mode: Mode = Mode.FAST
    metric: Metric = Metric.SQNR
    bits: tuple[int, ...] = (4, 8)
    objective: Objective = Objective.BYTES

    @property
    def sensitivity(self) -> AnalysisSpec:
        return AnalysisSpec(self.model, self.data, self.mode, self.metric, self.bits)

    @property
    def frontier(self) -> AnalysisSpec:
        """Verified, over the widths every backend can store and those of the request that can be stored at all."""
        bits = tuple(sorted({*FRONTIER_BITS, *self.bits} & {*MIXED_BITS}))
        return AnalysisSpec(
            self.model, self.data, self.mode, self.metric, bits, frontier=FrontierOptions(objective=self.objective)
        )


def ranked(document: Document, bits: int, *, by_loss: bool = True) -> list[tuple[str, float]]:
    """Layers with the loss that rounding each alone to `bits` causes, the largest first or in execution order."""
    losses = [(row["name"], float(row["loss"])) for row in document["layers"] if row["bits"] == bits]
    return sorted(losses, key=lambda one: -one[1]) if by_loss else losses


def widths(document: Document) -> list[int]:
    return list(dict.fromkeys(row["bits"] for row in document["layers"]))


def finding(document: Document, bits: int) -> str:
    """What matters most at one width, in Markdown: "conv1 at 4 bits costs …"."""
    losses = ranked(document, bits)
    total = sum(max(loss, 0.0) for _, loss in losses)
    name, worst = losses[0]
    if worst <= 0:
        return f"At {bits} bits no layer costs anything on these samples."
    share = f"{fmt.percent(worst / total, 0)} of what all {len(losses)} layers cost one by one"
    words = f"**{name}** at {bits} bits costs {share}: {effect(document, worst)}."
    most = _few_that_cost_most(losses, total)
    return words + (f" {most}" if most else "")


def effect(document: Document, loss: float) -> str:
    """What a loss means, in the metric's own terms."""
    match Metric(document["metric"]):
        case Metric.SQNR:
            level = sqnr_db(loss)
            return "rounded alone, it changes nothing" if level is None else f"rounded alone, it leaves {fmt.decibels(level)}"
        case Metric.KL:
            return f"rounded alone, it moves the answers by {fmt.number(loss)} nats"
        case Metric.DROP:
            return f"rounded alone, it loses {fmt.number(loss)} points of accuracy"


def _few_that_cost_most(losses: Sequence[tuple[str, float]], total: float) -> str:
    """How few layers make up nine tenths, where that is worth saying."""
    running = list(accumulate(max(loss, 0.0) for _, loss in losses))
    few = next(number for number, sum_ in enumerate(running, start=1) if sum_ >= NEARLY_ALL * total)
    if few < 2 or few > len(losses) / 2:
        return ""
    return f"{few} of {len(losses)} layers make up {fmt.percent(running[few - 1] / total, 0)}."


def cost_words(document: Document) -> str:
    """What the analysis cost."""
    passes = fmt.number(document["cost_passes"], 2)
    each = fmt.milliseconds(1000 * document["pass_seconds"])
    spent = fmt.number(document["seconds"], 2)
    return f"{passes} evaluation passes of {each} each, {spent}\u202fs in all, on {fmt.count(document['samples'])} samples"


def agreement_words(document: Document) -> str:
    """How far an estimate can be trusted; nothing for modes that measure."""
    check = document["agreement"]
    if check is None:
        return ""
    n = f"n = {check['layers']} layers, {check['samples']} samples, {check['bits']} bits"
    if check["spearman"] is None:
        return f"How well the estimate ranks layers is not known: {check['spearman_why_not']} ({n})."
    figure = f"Spearman {fmt.fixed(check['spearman'], 3)}, {n}"
    if check["layers"] < ENOUGH_LAYERS:
        return f"Checked against an exact run: {figure}; so few layers prove little."
    if check["spearman"] >= WELL_RANKED:
        return f"The estimate ranks the layers as an exact run on fewer samples does: {figure}."
    return f"The estimate ranks the layers differently from an exact run on fewer samples: {figure}. Use balanced or exact."


def level(document: Document, loss: float | None) -> float | None:
    """A loss as charts draw it: dB of SQNR, else the loss itself."""
    if loss is None or not math.isfinite(loss):
        return None
    return sqnr_db(loss) if document["metric"] == Metric.SQNR.value else loss


def price(value: float, objective: str) -> str:
    """A cost with its unit."""
    if objective == Objective.BYTES.value:
        return fmt.size(value)
    return f"{fmt.number(value / 1e6)} million bit-operations"


def point_words(document: Document, point: Document) -> str:
    """A choice in a sentence: its cost, and its predicted and measured loss."""
    objective = document["objective"]
    cost = price(point["bytes" if objective == Objective.BYTES.value else "bit_operations"], objective)
    smaller = fmt.smaller(document["float_bytes"] / point["bytes"])
    words = f"**{cost}** ({smaller} than float)" if objective == Objective.BYTES.value else f"**{cost}**, {smaller} than float"
    words += f": predicted {loss_words(document, point['predicted_loss'])}"
    if point["measured_loss"] is None:
        return f"{words}; not measured, as only points of the curve are."
    words += f", measured {loss_words(document, point['measured_loss'])}"
    return f"{words}, {fmt.percent(point['measured']['agreement'])} of the answers as in float."


def loss_words(document: Document, loss: float) -> str:
    match Metric(document["metric"]):
        case Metric.SQNR:
            value = sqnr_db(loss)
            return "no error" if value is None else fmt.decibels(value)
        case Metric.KL:
            return f"{fmt.number(loss)} nats"
        case Metric.DROP:
            return f"{fmt.number(loss)} points lost"


def frontier_finding(document: Document) -> str:
    """What mixed precision gains: the best choice at the cost of the uniform width where it gains most."""
    gains = []
    for uniform, equal in zip(document["uniform"], document["equal"], strict=True):
        ours, theirs = equal["measured_loss"], uniform["measured_loss"]
        if ours is not None and ours < theirs:
            gains.append((theirs / ours if ours > 0 else math.inf, uniform, ours, theirs))
    if not gains:
        return "Here no choice of widths beats one width for all layers at the same cost"
    _, uniform, ours, theirs = max(gains, key=lambda gain: gain[0])
    bits = next(iter(uniform["bits"].values()))
    mixed, same = (loss_words(document, loss) for loss in (ours, theirs))
    return f"At the cost of {bits} bits everywhere, mixed precision has {mixed} instead of {same}"
