"""What a sensitivity analysis gives, as frozen dataclasses that `asdict` turns into JSON. Imports nothing heavy.

Every metric is a loss: 0 for no change at the model's output, larger is worse, and losses of single layers roughly add up,
which a search for mixed precision builds on. The output's SQNR enters as its inverse, the noise-to-signal ratio.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from quantizers.errors import BadData

MALLOC: Mapping[str, str] = {
    "MALLOC_TRIM_THRESHOLD_": str(1 << 31),
    "MALLOC_MMAP_THRESHOLD_": str(1 << 31),
    "MALLOC_TOP_PAD_": str(64 << 20),
}
"""For the environment of an analysis' process: glibc uses freed activations again and does not map them anew (mallopt(3))."""
FEWEST_BITS, MOST_BITS = 2, 16
EXACT = "exact"
NO_LABELS = "the data has no labels"
ESTIMATED = "a few passes estimate only the metric that was asked for"


class Mode(StrEnum):
    """How a layer's loss is found.

    FAST projects its perturbation on the gradient of the output, for three quarters of the samples; BALANCED runs the model
    with the rounded layer on a quarter of them, EXACT on all.
    """

    FAST = "fast"
    BALANCED = "balanced"
    EXACT = "exact"


class Metric(StrEnum):
    """SQNR: Σ(y−ŷ)² ÷ Σy² of the output, a ratio. KL: of the softmax output from float's, in nats. DROP: top-1 accuracy lost,
    in percentage points, which needs labels.
    """

    SQNR = "sqnr"
    KL = "kl"
    DROP = "drop"


@dataclass(frozen=True, kw_only=True, slots=True)
class Losses:
    """Loss at the output in each metric; None beside the reason where it was not measured.

    Attributes:
        noise_ratio: Σ(y−ŷ)² ÷ Σy² of the output.
        sqnr_db: the same in dB; None when nothing changed.
        agreement: share of samples with the same top-1 answer, 0 to 1.
    """

    noise_ratio: float | None = None
    noise_ratio_why_not: str | None = None
    sqnr_db: float | None = None
    sqnr_db_why_not: str | None = None
    kl_nats: float | None = None
    kl_nats_why_not: str | None = None
    drop_pp: float | None = None
    drop_pp_why_not: str | None = None
    agreement: float | None = None
    agreement_why_not: str | None = None

    def of(self, metric: Metric) -> float:
        """The loss in one metric, which must have been measured."""
        value = {Metric.SQNR: self.noise_ratio, Metric.KL: self.kl_nats, Metric.DROP: self.drop_pp}[metric]
        assert value is not None, f"{metric} was not measured"
        return value

    @classmethod
    def estimated(cls, metric: Metric, loss: float) -> Losses:
        """What an estimate of one metric says."""
        rest = cls(
            noise_ratio_why_not=ESTIMATED,
            sqnr_db_why_not=ESTIMATED,
            kl_nats_why_not=ESTIMATED,
            drop_pp_why_not=ESTIMATED,
            agreement_why_not=ESTIMATED,
        )
        if metric is Metric.KL:
            return replace(rest, kl_nats=loss, kl_nats_why_not=None)
        why_not = None if loss > 0 else EXACT
        return replace(rest, noise_ratio=loss, noise_ratio_why_not=None, sqnr_db=sqnr_db(loss), sqnr_db_why_not=why_not)


def sqnr_db(noise_ratio: float) -> float | None:
    """None when there is no noise."""
    return -10 * math.log10(noise_ratio) if noise_ratio > 0 else None


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerLoss:
    """The loss when this layer alone has a weight of `bits`, in the analysis' metric and, in `losses`, in all of them."""

    name: str
    bits: int
    loss: float
    losses: Losses


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """How the estimate ranks the layers compared with an exact run on fewer samples, at the width that is hardest to estimate.

    Attributes:
        spearman: rank correlation over `layers` layers; None where the layers have no order.
        samples: that the exact run saw.
    """

    spearman: float | None
    spearman_why_not: str | None
    bits: int
    layers: int
    samples: int
    cost_passes: float
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Sensitivity:
    """A whole analysis. `layers` are in execution order, each with its widths in the order they were asked for.

    Attributes:
        samples: that the mode looked at.
        cost_passes, seconds: of the analysis itself, without the check that `agreement` tells of.
        pass_seconds: one evaluation pass over all samples there were, timed batch by batch beside the work.
        agreement: of a fast estimate with an exact run on a sample; None for other modes.
    """

    mode: Mode
    metric: Metric
    samples: int
    cost_passes: float
    seconds: float
    pass_seconds: float
    layers: tuple[LayerLoss, ...]
    agreement: Agreement | None = None
    agreement_why_not: str | None = None

    def losses(self, bits: int) -> dict[str, float]:
        """The loss of every layer at one width, in execution order."""
        return {row.name: row.loss for row in self.layers if row.bits == bits}


def check_bits(bits: Sequence[int]) -> None:
    """Refuses widths that no weight is stored in.

    Raises:
        BadData: one is outside 2 … 16, or there are none.
    """
    if not bits:
        raise BadData("No width was asked for.", "Give at least one, for example 4,8.")
    for one in bits:
        if not FEWEST_BITS <= one <= MOST_BITS:
            raise BadData(f"{one} bits were asked for.", f"Give widths from {FEWEST_BITS} to {MOST_BITS}; 16 means float16.")
