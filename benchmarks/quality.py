"""How well a quantized model still does its task: accuracy with intervals, paired with the float model on the same samples.

Intervals are 95 %: Wilson's for an accuracy (Wilson 1927, J. Am. Stat. Assoc. 22), and for the difference of two accuracies on
the same samples Newcombe's hybrid score interval for paired proportions (Newcombe 1998, Stat. Med. 17, method 10). Whether a
difference is more than noise is that interval's and McNemar's exact test's word, never the point estimate's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.fidelity import ErrorSums
from quantizers.adapter import Batch
from quantizers.errors import BadData

Classes = NDArray[np.int64]
NO_LABELS = "the data has no labels"
NO_CLASSES = "the output is no choice among classes"


@dataclass(frozen=True, slots=True)
class Flips:
    """Samples whose answer changed, by what it was and became."""

    right_to_wrong: int
    wrong_to_right: int
    wrong_to_other: int


@dataclass(frozen=True, slots=True)
class ClassQuality:
    """Figures of one class, `support` its number of samples. Precision is None where the class is never the answer, recall
    where it has no samples, F1 where both hold.
    """

    precision: float | None
    recall: float | None
    f1: float | None
    float_recall: float | None
    support: int


@dataclass(frozen=True, kw_only=True)
class _NeedsLabels:
    """The figures that need labels; without any they are None and say so. Shares are 0 to 1, drops percentage points.

    `drop_pp` is float minus quantized, so positive is worse. Macro figures are means over the classes among the labels.
    `confusion` has true classes as rows.
    """

    top1: float | None = None
    top1_ci95: tuple[float, float] | None = None
    float_top1: float | None = None
    drop_pp: float | None = None
    drop_pp_ci95: tuple[float, float] | None = None
    within_noise: bool | None = None
    mcnemar_p: float | None = None
    precision_macro: float | None = None
    recall_macro: float | None = None
    f1_macro: float | None = None
    flips: Flips | None = None
    per_class: tuple[ClassQuality, ...] | None = None
    confusion: tuple[tuple[int, ...], ...] | None = None
    top1_why_not: str | None = None
    top1_ci95_why_not: str | None = None
    float_top1_why_not: str | None = None
    drop_pp_why_not: str | None = None
    drop_pp_ci95_why_not: str | None = None
    within_noise_why_not: str | None = None
    mcnemar_p_why_not: str | None = None
    precision_macro_why_not: str | None = None
    recall_macro_why_not: str | None = None
    f1_macro_why_not: str | None = None
    flips_why_not: str | None = None
    per_class_why_not: str | None = None
    confusion_why_not: str | None = None


@dataclass(frozen=True, kw_only=True)
class Quality(_NeedsLabels):
    """Quality on `n` samples. The output's SQNR is of all logits together, its cosine the mean over samples; `kl_nats` is the
    mean Kullback–Leibler divergence of the softmax outputs from the float model's. It and the agreement need classes.
    """

    n: int
    agreement: float | None
    agreement_why_not: str | None
    output_sqnr_db: float | None
    output_sqnr_db_why_not: str | None
    output_cosine: float | None
    output_cosine_why_not: str | None
    kl_nats: float | None
    kl_nats_why_not: str | None


def compare(float_logits: Batch, logits: Batch, labels: Classes | None, classes: int | None) -> Quality:
    """Quality of `logits` [N, classes] against the float model's on the same samples, and against `labels` [N] if any.

    Args:
        classes: None where the output is that of no classifier, and is compared as numbers alone.

    Raises:
        BadData: there are no samples, or labels that do not fit them.
        QuantizationError: a logit is NaN or infinite.
    """
    labels = labels if classes else None
    _check(float_logits, labels, classes or 0)
    output = ErrorSums()
    output.add(float_logits, logits, "The model's output")
    error = output.figures()
    return Quality(
        n=len(logits),
        output_sqnr_db=error.sqnr_db,
        output_sqnr_db_why_not=error.sqnr_db_why_not,
        output_cosine=error.cosine,
        output_cosine_why_not=error.cosine_why_not,
        **_answers(float_logits, logits, labels, classes),
    )


def _answers(float_logits: Batch, logits: Batch, labels: Classes | None, classes: int | None) -> dict[str, Any]:
    """The figures of classifiers, or why there are none."""
    if not classes:
        absent = dict.fromkeys(("agreement", "kl_nats"), None)
        reasons = {f"{name}_why_not": NO_CLASSES for name in absent}
        return absent | reasons | _without_labels(NO_CLASSES)
    before, after = float_logits.argmax(axis=1), logits.argmax(axis=1)
    return {
        "agreement": float((before == after).mean()),
        "agreement_why_not": None,
        "kl_nats": kl_divergence(float_logits, logits),
        "kl_nats_why_not": None,
        **(_without_labels(NO_LABELS) if labels is None else _against(labels, before, after, classes)),
    }


def _check(float_logits: Batch, labels: Classes | None, classes: int) -> None:
    if len(float_logits) == 0:
        raise BadData("There are no samples to measure quality on.", "Evaluate on at least one sample.")
    if labels is None:
        return
    if labels.shape != (len(float_logits),):
        raise BadData(f"{labels.size} labels do not fit {len(float_logits)} samples.", "Give one label a sample, or none.")
    if labels.min() < 0 or labels.max() >= classes:
        raise BadData(f"Labels span {labels.min()} to {labels.max()}.", f"The model knows the classes 0 to {classes - 1}.")


def _without_labels(why_not: str) -> dict[str, Any]:
    absent = [field.name for field in fields(_NeedsLabels) if not field.name.endswith("_why_not")]
    return {f"{name}_why_not": why_not for name in absent}


def _against(labels: Classes, before: Classes, after: Classes, classes: int) -> dict[str, Any]:
    right_before, right_after = before == labels, after == labels
    interval = paired_difference(right_before, right_after)
    flips = _flips(before, after, labels)
    return {
        "top1": float(right_after.mean()),
        "top1_ci95": wilson(int(right_after.sum()), len(labels)),
        "float_top1": float(right_before.mean()),
        "drop_pp": 100 * float(right_before.mean() - right_after.mean()),
        "drop_pp_ci95": (100 * interval[0], 100 * interval[1]),
        "within_noise": interval[0] <= 0 <= interval[1],
        "mcnemar_p": mcnemar(flips.right_to_wrong, flips.wrong_to_right),
        "flips": flips,
        **_by_class(before, after, labels, classes),
    }


def wilson(successes: int, n: int) -> tuple[float, float]:
    """95 % score interval of a proportion."""
    from scipy.stats import binomtest

    interval = binomtest(successes, n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def paired_difference(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> tuple[float, float]:
    """95 % interval of mean(before) − mean(after) over the same samples: Newcombe's method 10."""
    n = len(before)
    both, neither = int((before & after).sum()), int((~before & ~after).sum())
    lost, won = int((before & ~after).sum()), int((~before & after).sum())
    first, second = (both + lost) / n, (both + won) / n
    (low1, high1), (low2, high2) = wilson(both + lost, n), wilson(both + won, n)
    phi = _phi(both, lost, won, neither)
    difference = first - second
    below = (first - low1) ** 2 - 2 * phi * (first - low1) * (high2 - second) + (high2 - second) ** 2
    above = (high1 - first) ** 2 - 2 * phi * (high1 - first) * (second - low2) + (second - low2) ** 2
    return difference - math.sqrt(max(below, 0.0)), difference + math.sqrt(max(above, 0.0))


def _phi(both: int, lost: int, won: int, neither: int) -> float:
    """Correlation of the paired outcomes, with Newcombe's continuity correction when it is positive."""
    margins = (both + lost) * (won + neither) * (both + won) * (lost + neither)
    if margins == 0:
        return 0.0
    excess = both * neither - lost * won
    n = both + lost + won + neither
    corrected = max(excess - n / 2, 0.0) if excess > 0 else float(excess)
    return corrected / math.sqrt(margins)


def mcnemar(lost: int, won: int) -> float:
    """Exact two-sided p-value that losses and gains are equally likely (McNemar's test)."""
    from scipy.stats import binomtest

    return float(binomtest(lost, lost + won, 0.5).pvalue) if lost + won else 1.0


def _flips(before: Classes, after: Classes, labels: Classes) -> Flips:
    right_before, right_after = before == labels, after == labels
    return Flips(
        right_to_wrong=int((right_before & ~right_after).sum()),
        wrong_to_right=int((~right_before & right_after).sum()),
        wrong_to_other=int((~right_before & ~right_after & (before != after)).sum()),
    )


def _by_class(before: Classes, after: Classes, labels: Classes, classes: int) -> dict[str, Any]:
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    names = np.arange(classes)
    precision, recall, f1, support = precision_recall_fscore_support(labels, after, labels=names, zero_division=0.0)
    _, float_recall, _, _ = precision_recall_fscore_support(labels, before, labels=names, zero_division=0.0)
    answered, present = np.bincount(after, minlength=classes) > 0, support > 0
    return {
        "precision_macro": float(precision[present].mean()),
        "recall_macro": float(recall[present].mean()),
        "f1_macro": float(f1[present].mean()),
        "per_class": tuple(
            ClassQuality(
                precision=float(precision[one]) if answered[one] else None,
                recall=float(recall[one]) if present[one] else None,
                f1=float(f1[one]) if answered[one] or present[one] else None,
                float_recall=float(float_recall[one]) if present[one] else None,
                support=int(support[one]),
            )
            for one in names
        ),
        "confusion": tuple(tuple(map(int, row)) for row in confusion_matrix(labels, after, labels=names)),
    }


def kl_divergence(float_logits: Batch, logits: Batch) -> float:
    """Mean KL(float ‖ quantized) of the softmax outputs, in nats."""
    from scipy.special import log_softmax

    reference = log_softmax(float_logits.astype(np.float64), axis=1)
    other = log_softmax(logits.astype(np.float64), axis=1)
    return max(float((np.exp(reference) * (reference - other)).sum(axis=1).mean()), 0.0)
