import json
from dataclasses import asdict, fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import entropy
from sklearn.metrics import f1_score, precision_score, recall_score

from benchmarks.quality import Flips, compare, kl_divergence, mcnemar, paired_difference, wilson
from quantizers.errors import BadData, QuantizationError


def one_hot(answers: list[int], classes: int) -> np.ndarray:
    return np.eye(classes, dtype=np.float32)[answers]


def noisy_logits(
    n: int = 300, classes: int = 5, noise: float = 0.5, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Float logits, disturbed logits and labels that the float ones mostly meet."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    before = 2 * one_hot(labels, classes) + rng.standard_normal((n, classes)).astype(np.float32)
    return before, before + noise * rng.standard_normal((n, classes)).astype(np.float32), labels


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(0, 10, 0.0, 0.2775), (50, 100, 0.4038, 0.5962), (10, 10, 0.7225, 1.0), (898, 1000, 0.8777, 0.9153)],
)
def test_wilsons_interval(successes: int, n: int, low: float, high: float) -> None:
    assert wilson(successes, n) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize(("lost", "won", "p"), [(0, 0, 1.0), (5, 5, 1.0), (9, 1, 22 / 1024), (1, 9, 22 / 1024), (6, 0, 2 / 64)])
def test_mcnemars_exact_p(lost: int, won: int, p: float) -> None:
    assert mcnemar(lost, won) == pytest.approx(p)


@pytest.mark.parametrize(("n", "lose", "win"), [(1000, 0.01, 0.005), (1000, 0.03, 0.02), (200, 0.05, 0.01), (1000, 0.001, 0.0)])
def test_the_paired_interval_holds_the_truth_95_times_in_100(n: int, lose: float, win: float) -> None:
    rng = np.random.default_rng(1)
    shares = [0.9 - lose, lose, win, 0.1 - win]
    held = 0
    for counts in rng.multinomial(n, shares, size=400):
        before, after = np.repeat([1, 1, 0, 0], counts).astype(bool), np.repeat([1, 0, 1, 0], counts).astype(bool)
        low, high = paired_difference(before, after)
        held += low <= lose - win <= high
    assert held / 400 >= 0.93


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_the_paired_interval_holds_its_estimate_and_mirrors(pairs: list[tuple[bool, bool]]) -> None:
    before, after = (np.array(side) for side in zip(*pairs, strict=True))
    low, high = paired_difference(before, after)
    assert low <= before.mean() - after.mean() <= high
    assert paired_difference(after, before) == pytest.approx((-high, -low))


def test_pairing_narrows_the_interval() -> None:
    before = np.repeat([True, False], [900, 100])
    paired = paired_difference(before, before)
    unpaired = paired_difference(before, np.random.default_rng(0).permutation(before))
    assert paired[1] - paired[0] < 0.4 * (unpaired[1] - unpaired[0])


def test_flips_by_hand() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    before = one_hot([0, 0, 1, 0, 2, 0], 3)
    after = one_hot([0, 1, 0, 2, 2, 0], 3)
    found = compare(before, after, labels, 3)
    assert found.flips == Flips(right_to_wrong=1, wrong_to_right=1, wrong_to_other=1)
    assert found.agreement == pytest.approx(3 / 6)
    assert (found.float_top1, found.top1, found.drop_pp) == (pytest.approx(2 / 6), pytest.approx(2 / 6), 0.0)
    assert found.within_noise


def test_a_real_drop_is_called_one_in_percentage_points() -> None:
    labels = np.zeros(1000, np.int64)
    before, after = one_hot([0] * 950 + [1] * 50, 2), one_hot([0] * 850 + [1] * 150, 2)
    found = compare(before, after, labels, 2)
    assert found.drop_pp == pytest.approx(10.0)
    low, high = found.drop_pp_ci95
    assert 7 < low < 10 < high < 13
    assert not found.within_noise
    assert found.mcnemar_p < 1e-6
    gained = compare(after, before, labels, 2)
    assert gained.drop_pp == pytest.approx(-10.0)
    assert gained.drop_pp_ci95 == pytest.approx((-high, -low))


def test_class_figures_are_those_of_scikit_learn() -> None:
    before, after, labels = noisy_logits(noise=2.0)
    found, answers = compare(before, after, labels, 5), after.argmax(axis=1)
    assert found.precision_macro == pytest.approx(precision_score(labels, answers, average="macro"))
    assert found.recall_macro == pytest.approx(recall_score(labels, answers, average="macro"))
    assert found.f1_macro == pytest.approx(f1_score(labels, answers, average="macro"))
    for one, figures in enumerate(found.per_class):
        assert figures.recall == pytest.approx((answers[labels == one] == one).mean())
        assert figures.precision == pytest.approx((labels[answers == one] == one).mean())
        assert figures.float_recall == pytest.approx((before.argmax(axis=1)[labels == one] == one).mean())
        assert figures.support == (labels == one).sum()


def test_confusion_has_true_classes_as_rows() -> None:
    found = compare(one_hot([0, 1, 2], 3), one_hot([1, 1, 2], 3), np.array([0, 1, 2]), 3)
    assert found.confusion == ((0, 1, 0), (0, 1, 0), (0, 0, 1))


def test_classes_without_samples_or_answers_have_no_figures() -> None:
    labels = np.array([0, 0, 1])
    found = compare(one_hot([0, 0, 0], 4), one_hot([0, 0, 2], 4), labels, 4)
    never_answered, no_samples, neither = found.per_class[1:]
    assert (never_answered.precision, never_answered.recall, never_answered.f1) == (None, 0.0, 0.0)
    assert (no_samples.precision, no_samples.recall, no_samples.f1, no_samples.float_recall) == (0.0, None, 0.0, None)
    assert (neither.precision, neither.recall, neither.f1) == (None, None, None)
    assert found.recall_macro == pytest.approx(0.5)


def test_kl_is_that_of_scipy_and_survives_certainty() -> None:
    before, after, _ = noisy_logits()
    expected = entropy(softmax(before.astype(np.float64), axis=1), softmax(after.astype(np.float64), axis=1), axis=1).mean()
    assert kl_divergence(before, after) == pytest.approx(expected)
    assert kl_divergence(before, before + 7) == pytest.approx(0.0, abs=1e-9)
    certain = np.array([[2000.0, 0.0]], np.float32)
    assert kl_divergence(certain, -certain) == pytest.approx(2000.0)


def test_the_same_logits_are_exact() -> None:
    before, _, labels = noisy_logits()
    found = compare(before, before, labels, 5)
    assert (found.output_sqnr_db, found.output_sqnr_db_why_not, found.agreement, found.kl_nats) == (None, "exact", 1.0, 0.0)
    assert found.drop_pp == 0.0
    assert found.within_noise
    assert found.mcnemar_p == 1.0


def test_without_labels_nothing_is_invented() -> None:
    before, after, _ = noisy_logits()
    found = asdict(compare(before, after, None, 5))
    assert found["n"] == 300
    assert 0 < found["agreement"] < 1
    assert found["kl_nats"] > 0
    assert found["output_sqnr_db"] > 0
    absent = {name for name, value in found.items() if value is None and not name.endswith("_why_not")}
    assert absent >= {"top1", "drop_pp", "f1_macro", "flips", "confusion"}
    assert {found[f"{name}_why_not"] for name in absent} == {"the data has no labels"}


def test_a_report_is_clean_json() -> None:
    found = compare(*noisy_logits(), 5)
    assert all(getattr(found, field.name) is None for field in fields(found) if field.name.endswith("_why_not"))
    assert json.loads(json.dumps(asdict(found), allow_nan=False))["flips"] == asdict(found.flips)


@pytest.mark.parametrize(
    ("n", "labels", "says"),
    [(0, [], "no samples"), (3, [0, 1], "2 labels do not fit 3 samples"), (2, [0, 5], "0 to 5"), (2, [-1, 0], "-1 to 0")],
)
def test_labels_that_do_not_fit_are_refused(n: int, labels: list[int], says: str) -> None:
    logits = np.zeros((n, 5), np.float32)
    with pytest.raises(BadData, match=says):
        compare(logits, logits, np.array(labels, np.int64), 5)


def test_no_figure_is_made_of_nan() -> None:
    before, after, labels = noisy_logits()
    after[3, 2] = np.nan
    with pytest.raises(QuantizationError, match="NaN"):
        compare(before, after, labels, 5)
