"""Sentences about one layer follow from its figures, and figures that are absent say nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from made_runs import make_run

from pages._ui.charts_layers import Figure, LayerErrors, Order, Part
from pages._ui.findings_layer import explain, headline, shares
from pages._ui.inspector_charts import Channels
from pages._ui.inspector_errors import TITLES, table


def report(sqnr_db: float | None) -> dict[str, Any]:
    cosine = 1.0 if sqnr_db is None else 1 - 10 ** (-sqnr_db / 10) / 2
    why_not = "exact" if sqnr_db is None else None
    return {"sqnr_db": sqnr_db, "sqnr_db_why_not": why_not, "mse": 0.001, "cosine": cosine, "max_abs": 0.1}


def isolated(run: dict[str, Any], *both: float) -> dict[str, Any]:
    """The run with isolated errors: in dB with all of a layer quantized; its activations cost 20 dB less than its weights."""
    for layer, sqnr in zip(run["layers"], both, strict=True):
        layer["isolated"] = {"weight_only": report(sqnr), "activation_only": report(sqnr + 20), "both": report(sqnr)}
    return run


@pytest.fixture
def run() -> dict[str, Any]:
    return isolated(make_run("r", "tflite", "static_wi8_ai8")[0], 20, 30, 40, 40, 40)


def channels(*reach: float) -> Channels:
    high = np.array(reach)
    return Channels(-high, high, None, None, None)


def test_shares_are_of_the_noise_and_add_up(run: dict[str, Any]) -> None:
    found = shares(run["layers"])
    assert sum(found.values()) == pytest.approx(1)
    assert found["conv1"] == pytest.approx(0.01 / (0.01 + 0.001 + 3 * 0.0001))


def test_an_older_run_has_no_shares() -> None:
    assert shares(make_run("r", "tflite", "static_wi8_ai8")[0]["layers"]) == {}


def test_the_headline_names_share_and_channel(run: dict[str, Any]) -> None:
    words = headline(run["layers"][0], run["layers"], channels(1, 1, 1, 12, 1))
    assert words == (
        "**conv1** is 88\u202f% of the error that the layers add by themselves; its channel 3 has 12× the median range."
    )


def test_without_isolated_errors_the_channel_is_still_named() -> None:
    layers = make_run("r", "tflite", "static_wi8_ai8")[0]["layers"]
    assert headline(layers[0], layers, channels(1, 1, 5)) == "Of **conv1**, channel 2 has 5.0× the median range."
    assert headline(layers[0], layers, channels(1, 1, 1)) == ""
    assert headline(layers[0], layers, channels(0, 0, 1)) == ""


def test_weights_and_activations_are_weighed(run: dict[str, Any]) -> None:
    layer = run["layers"][0]
    assert any(sentence.startswith("Its weights cost more") for sentence in explain(layer, run["layers"], None))
    layer["isolated"]["activation_only"] = report(21)
    assert any("about the same" in sentence for sentence in explain(layer, run["layers"], None))


def test_inherited_error_is_told_from_own(run: dict[str, Any]) -> None:
    layer = run["layers"][0]
    layer["output"]["sqnr_db"] = 19.0
    assert any("mostly its own" in sentence for sentence in explain(layer, run["layers"], None))
    layer["output"]["sqnr_db"] = 10.0
    assert any("layers before it" in sentence for sentence in explain(layer, run["layers"], None))


def test_every_part_of_the_error_has_a_row(run: dict[str, Any]) -> None:
    rows = table(run["layers"][0])
    assert list(rows.index) == list(TITLES.values())
    assert rows.loc[TITLES[Part.ACTIVATION_ONLY], "SQNR"] == "40.0\u202fdB"
    older = table(make_run("r", "tflite", "static_wi8_ai8")[0]["layers"][0])
    assert older.loc[TITLES[Part.ISOLATED], "Remark"] == "not in this run"


def test_the_map_takes_every_part_and_figure(run: dict[str, Any]) -> None:
    older = make_run("old", "tflite", "static_wi8_ai8")[0]
    errors = LayerErrors.of([run, older], Part.ACTIVATION_ONLY, Figure.COSINE)
    assert errors.values[0, 0] == pytest.approx(run["layers"][0]["isolated"]["activation_only"]["cosine"])
    assert errors.level[0, 0] == pytest.approx(40, abs=0.1)
    assert np.isnan(errors.values[:, 1]).all()
    assert errors.text(0, 1) == "not in this run"
    assert LayerErrors.of([run], Part.ISOLATED).sorted(Order.WORST).layers[0] == "conv1"
