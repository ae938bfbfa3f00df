"""Mixed precision as a multiple-choice knapsack: the width of each layer with which the predicted loss is least in a budget.

The predicted loss of a choice is the sum of its layers' own losses. Each budget is one integer program, solved by HiGHS
(`scipy.optimize.milp`) to the relative gap below. Light and pure: numbers in, choices out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.sensitivity.report import Losses, Metric, Mode
from quantizers.errors import BadData, QuantizationError
from quantizers.schema import Mode as TechniqueMode
from quantizers.schema import Technique

NOT_VERIFIED = "not measured: verification was not asked for"
NOT_RUN = "this choice has not been run on a backend"
_GAP = 1e-6
_SOLVE_SECONDS = 5.0
_HALF = 0.5


class Objective(StrEnum):
    """What a budget limits: bytes of the stored model, or bit-operations (multiplications × bits of the weight) a sample."""

    BYTES = "bytes"
    BIT_OPERATIONS = "bit_operations"


_WORDS = {Objective.BYTES: "bytes", Objective.BIT_OPERATIONS: "bit-operations"}


@dataclass(frozen=True, slots=True)
class Width:
    """One width that a layer can have, with the loss it causes alone."""

    bits: int
    loss: float
    bytes: int
    bit_operations: int

    def of(self, objective: Objective) -> int:
        return self.bytes if objective is Objective.BYTES else self.bit_operations


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """A choice of widths. `technique` is its code, which a backend can run; losses are in the frontier's metric.

    Attributes:
        measured: the loss with all layers rounded, in every metric, on samples that the choice was not made on.
        uniform: whether all layers have one width.
        run_id: the newest finished run of this choice on any backend.
    """

    bits: dict[str, int]
    technique: str
    bytes: int
    bit_operations: int
    predicted_loss: float
    measured_loss: float | None = None
    measured_loss_why_not: str | None = NOT_VERIFIED
    measured: Losses | None = None
    uniform: bool = False
    run_id: str | None = None
    run_id_why_not: str | None = NOT_RUN


@dataclass(frozen=True, kw_only=True, slots=True)
class Frontier:
    """Points by rising cost, and uniform widths beside them.

    Attributes:
        samples: that the losses of single layers were found on.
        sensitivity_passes: what finding the losses cost, in evaluation passes.
        seconds: of everything: sensitivities, search and verification.
        equal: the best choice at the cost of each uniform width, in the order of `uniform`.
        at: one point for each further budget that was asked for, in that order.
        widths: what every layer can have, which `frontier_at` turns into the choice for any other budget.
        fixed_bytes: what no choice changes.
    """

    mode: Mode
    metric: Metric
    objective: Objective
    samples: int
    float_bytes: int
    sensitivity_passes: float
    seconds: float
    points: tuple[Point, ...]
    uniform: tuple[Point, ...]
    equal: tuple[Point, ...]
    at: tuple[Point, ...]
    widths: dict[str, tuple[Width, ...]]
    fixed_bytes: int


class Knapsack:
    """The widths of every layer, and the bytes that no choice changes.

    Args:
        widths: at least one for every layer, by layer name.
    """

    def __init__(self, widths: Mapping[str, Sequence[Width]], fixed_bytes: int) -> None:
        self.widths = {name: tuple(options) for name, options in widths.items()}
        self.fixed_bytes = fixed_bytes

    def solve(self, budget: float, objective: Objective = Objective.BYTES) -> Point:
        """The choice of least predicted loss that costs at most `budget`.

        Raises:
            BadData: even the narrowest widths cost more.
        """
        least = self.point(self._cheapest(objective))
        if budget < cost(least, objective):
            what = f"A budget of {budget:,.0f} {_WORDS[objective]} is too small"
            raise BadData(f"{what} for this model.", f"It needs at least {cost(least, objective):,}.")
        options = [(name, width) for name, widths in self.widths.items() for width in widths]
        losses = np.array([_loss(width) for _, width in options])
        chosen = self._program(options, losses / (losses.max() or 1.0), budget, objective)
        # Losses span decades and a solver's tolerances are absolute: a second round in units of the first one's loss, without
        # whatever alone costs more, settles what the first left open.
        if (found := losses[chosen].sum()) > 0:
            chosen = self._program(options, np.where(losses <= found, losses / found, np.inf), budget, objective)
        return self.point({name: width.bits for (name, width), used in zip(options, chosen, strict=True) if used})

    def sweep(self, points: int, objective: Objective = Objective.BYTES) -> tuple[Point, ...]:
        """The frontier at `points` budgets from the least to the largest cost, in equal ratios, without what repeats."""
        first, last = (cost(self.point(choose(objective)), objective) for choose in (self._cheapest, self._dearest))
        budgets = np.geomspace(first, last, points) if points > 1 else np.array([last])
        found = [self.solve(np.ceil(budget), objective) for budget in budgets]
        return tuple({point.technique: point for point in found}.values())

    def uniform(self) -> tuple[Point, ...]:
        """All layers at one width, for every width that all of them have."""
        shared = set.intersection(*({width.bits for width in widths} for widths in self.widths.values()))
        return tuple(self.point(dict.fromkeys(self.widths, bits)) for bits in sorted(shared))

    def point(self, bits: Mapping[str, int]) -> Point:
        """A choice with its costs and predicted loss."""
        chosen = [next(width for width in self.widths[name] if width.bits == wanted) for name, wanted in bits.items()]
        return Point(
            bits=dict(bits),
            technique=technique_code(bits),
            bytes=self.fixed_bytes + sum(width.bytes for width in chosen),
            bit_operations=sum(width.bit_operations for width in chosen),
            predicted_loss=sum(_loss(width) for width in chosen),
            uniform=len(set(bits.values())) == 1,
        )

    def _cheapest(self, objective: Objective) -> dict[str, int]:
        return {name: min(widths, key=lambda width: width.of(objective)).bits for name, widths in self.widths.items()}

    def _dearest(self, objective: Objective) -> dict[str, int]:
        return {name: max(widths, key=lambda width: width.of(objective)).bits for name, widths in self.widths.items()}

    def _program(
        self, options: Sequence[tuple[str, Width]], losses: NDArray[np.float64], budget: float, objective: Objective
    ) -> NDArray[np.bool_]:
        """Which options an optimal choice takes; those of infinite loss never."""
        from scipy.optimize import Bounds, LinearConstraint, milp

        allowed = np.isfinite(losses)
        one_each = np.array([[name == layer for name, _ in options] for layer in self.widths], float)
        costs = np.array([[width.of(objective) for _, width in options]], float)
        # Costs are whole numbers: half of one more than the budget is room for the solver's tolerance and for nothing else.
        limit = math.floor(budget) + 0.5 - (self.fixed_bytes if objective is Objective.BYTES else 0)
        result = milp(
            np.where(allowed, losses, 0.0),
            integrality=np.ones(len(options)),
            bounds=Bounds(0.0, allowed.astype(float)),
            constraints=[LinearConstraint(one_each, 1.0, 1.0), LinearConstraint(costs, ub=limit)],
            options={"mip_rel_gap": _GAP, "time_limit": _SOLVE_SECONDS},
        )
        if result.x is None:
            raise QuantizationError(f"The solver found no choice of widths: {result.message}")
        return np.asarray(result.x > _HALF)


def frontier_at(document: Mapping[str, Any], budget: float) -> Point:
    """The choice of least predicted loss within a budget in a frontier's objective, from the document of that frontier.

    Raises:
        BadData: the budget is too small.
    """
    widths = {name: [Width(**width) for width in options] for name, options in document["widths"].items()}
    return Knapsack(widths, document["fixed_bytes"]).solve(budget, Objective(document["objective"]))


def technique_code(bits: Mapping[str, int]) -> str:
    """The code of a choice, the most frequent width as “*”."""
    widths = list(bits.values())
    common = max(dict.fromkeys(widths), key=widths.count)
    named = tuple((name, width) for name, width in bits.items() if width != common)
    return Technique(TechniqueMode.MIXED, layers=(*named, ("*", common))).code


def cost(point: Point, objective: Objective) -> int:
    return point.bytes if objective is Objective.BYTES else point.bit_operations


def _loss(width: Width) -> float:
    """A layer whose rounding happens to help counts as harmless: that is noise of the samples."""
    return max(width.loss, 0.0)
