"""What is said and drawn of an analysis follows from its document, in every metric."""

from __future__ import annotations

import math

import pytest
from made_analyses import LOSSES, analysis, frontier

from benchmarks.sensitivity.report import Metric
from experiments.frontier import Objective
from pages._ui import sensitivity as words
from pages._ui import sensitivity_charts as drawn
from pages._ui.theme import DARK, LIGHT


def test_layers_are_ranked_or_in_order() -> None:
    document = analysis()
    document["layers"] = document["layers"][::-1]
    assert [name for name, _ in words.ranked(document, 4)] == list(LOSSES)
    assert [name for name, _ in words.ranked(document, 4, by_loss=False)] == list(LOSSES)[::-1]
    assert sorted(words.widths(document)) == [4, 8]


@pytest.mark.parametrize(
    ("metric", "effect"),
    [(Metric.SQNR, "leaves 12.2\u202fdB"), (Metric.KL, "by 0.0600 nats"), (Metric.DROP, "loses 0.0600 points of accuracy")],
)
def test_the_costliest_layer_is_named_with_what_it_does(metric: Metric, effect: str) -> None:
    text = words.finding(analysis(metric), 4)
    assert text.startswith("**conv1** at 4 bits costs 75\u202f% of what all 4 layers cost one by one")
    assert effect in text


def test_no_loss_at_all_is_said() -> None:
    document = analysis()
    for row in document["layers"]:
        row["loss"] = 0.0
    assert words.finding(document, 4) == "At 4 bits no layer costs anything on these samples."
    assert words.level(document, 0.0) is None


@pytest.mark.parametrize(
    ("spearman", "layers", "said"),
    [(0.97, 12, "ranks the layers as"), (0.5, 12, "Use balanced or exact"), (1.0, 2, "prove little"), (None, 12, "not known")],
)
def test_the_estimate_is_judged_by_its_agreement(spearman: float | None, layers: int, said: str) -> None:
    text = words.agreement_words(analysis(spearman=spearman, layers=layers))
    assert said in text
    assert f"n = {layers} layers" in text
    assert words.agreement_words({"agreement": None}) == ""


def test_bars_carry_their_layers_and_mark_the_chosen() -> None:
    losses = words.ranked(analysis(), 4)
    for draw, values in ((drawn.ranked_bars, "x"), (drawn.in_order, "y")):
        (bars,) = draw(losses, Metric.SQNR, LIGHT, "conv2").data
        assert list(getattr(bars, values)) == [loss for _, loss in losses]
        assert list(bars.customdata) == [name for name, _ in losses]
        assert [colour == LIGHT.accent for colour in bars.marker.color] == [name == "conv2" for name, _ in losses]


@pytest.mark.parametrize("objective", list(Objective))
@pytest.mark.parametrize("metric", list(Metric))
def test_the_frontier_shows_every_point_predicted_and_measured(metric: Metric, objective: Objective) -> None:
    document = frontier(metric, objective)
    chosen = document["points"][1]
    traces = {trace.name: trace for trace in drawn.frontier(document, DARK, chosen).data}
    assert set(traces) == {"predicted", "measured", "one width for all", "your budget"}
    assert list(traces["measured"].customdata) == [point["technique"] for point in document["points"]]
    assert list(traces["one width for all"].text) == ["all 4 bits", "all 8 bits"]
    loss = chosen["measured_loss"]
    assert traces["your budget"].y[0] == pytest.approx(-10 * math.log10(loss) if metric is Metric.SQNR else loss)


def test_a_point_says_its_price_and_whether_it_was_measured() -> None:
    document = frontier()
    point = document["uniform"][0]
    text = words.point_words(document, point)
    assert text.startswith("**28.1\u202fKB** (8.0× smaller than float): predicted 9.5\u202fdB, measured 9.5\u202fdB")
    assert "98.0\u202f% of the answers" in text
    assert "not measured" in words.point_words(document, point | {"measured_loss": None})


def test_the_gain_over_a_uniform_width_is_told() -> None:
    document = frontier()
    assert "no choice of widths beats" in words.frontier_finding(document)
    document["equal"][0] |= {"technique": "mixed:other", "measured_loss": 0.001}
    assert words.frontier_finding(document) == (
        "At the cost of 4 bits everywhere, mixed precision has 30.0\u202fdB instead of 9.5\u202fdB"
    )
