"""Training as pages tell it: both arms by epoch, and a verdict that follows the paired interval."""

from __future__ import annotations

from typing import Any

import pytest

from pages._ui.charts_training import finding, learning_curve
from pages._ui.theme import LIGHT
from pages._ui.training import verdict_words

EPOCHS = [
    {"arm": arm, "epoch": epoch, "loss": loss / epoch, "accuracy": 0.9 + epoch / 100, "seconds": 1.0}
    for arm, loss in (("qat", 0.5), ("control", 0.4))
    for epoch in (1, 2)
]


def training(drop: float, low: float, high: float) -> dict[str, Any]:
    gain = {"drop_pp": drop, "drop_pp_ci95": [low, high], "within_noise": low <= 0 <= high, "mcnemar_p": 0.5}
    return {"epochs": EPOCHS, "seconds": 12.0, "against_control": gain}


def test_the_curve_has_a_line_an_arm() -> None:
    figure = learning_curve(EPOCHS, "loss", LIGHT)
    assert {line.name: list(line.y) for line in figure.data} == {
        "Quantization-aware": [0.5, 0.25],
        "Control, in float": [0.4, 0.2],
    }
    assert figure.layout.yaxis.title.text == "Mean loss over the training samples"
    assert list(figure.data[0].x) == [1, 2]


def test_a_curve_begins_with_the_first_epoch() -> None:
    figure = learning_curve(EPOCHS[:1], "accuracy", LIGHT)
    assert [line.name for line in figure.data] == ["Quantization-aware"]
    assert finding(EPOCHS[:1], "accuracy") == "Top-1 accuracy: 91.0\u202f% trained after epoch 1"


def test_the_finding_names_both_arms() -> None:
    assert finding(EPOCHS, "loss") == "Loss: 0.250 trained, 0.200 control after epoch 2"


@pytest.mark.parametrize(
    ("drop", "low", "high", "words"),
    [
        (-0.4, -0.7, -0.1, "**+0.40\u202fpoints** [+0.10, +0.70], :green[more accurate]"),
        (0.4, 0.1, 0.7, "**−0.40\u202fpoints** [−0.70, −0.10], :red[less accurate]"),
        (-0.4, -1.0, 0.2, ":gray[within noise]: plain training gave as much."),
    ],
)
def test_the_verdict_follows_the_interval(drop: float, low: float, high: float, words: str) -> None:
    assert words in verdict_words(training(drop, low, high))
    assert "2 epochs in each arm" in verdict_words(training(drop, low, high))
