"""The layers page: one run, its finding, the table, and the inspector of the layer that the address names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from stored_runs import crash_next, finished, open_page, submit

from experiments.store.store import Store
from quantizers.schema import Backend, Status


@pytest.fixture
def store(clean_home: Path) -> Store:
    clean_home.mkdir(exist_ok=True)
    return Store(clean_home)


def texts(test: Any) -> str:
    return "\n".join(str(element.value) for element in [*test.markdown, *test.caption, *test.subheader])


def test_nothing_yet_offers_one_action(store: Store) -> None:
    test = open_page("layers")
    assert not test.exception
    assert "No run has finished yet." in texts(test)


def test_without_an_address_the_newest_quantized_run_is_shown(store: Store) -> None:
    _, quantized = finished(store, [(Backend.TFLITE, "float32"), (Backend.TFLITE, "static_wi8_ai8")])
    test = open_page("layers")
    assert not test.exception
    assert test.selectbox(key="layers_run").value == quantized
    assert "has the lowest output SQNR" in texts(test)
    assert len(test.get("plotly_chart")) == 3  # this made-up run keeps no histogram of outputs


def test_the_address_opens_a_layer(store: Store) -> None:
    run_id = finished(store)[0]
    test = open_page("layers", run=run_id, layer="conv2")
    assert test.subheader[0].value == "conv2"
    figures = {metric.label: metric for metric in test.metric}
    layer = next(layer for layer in store.run(run_id)["layers"] if layer["name"] == "conv2")
    assert figures["Weight SQNR"].value == f"{layer['weight']['sqnr_db']:.1f}\u202fdB"
    assert "0.289" in figures["RMSE / step"].help
    table = test.dataframe[0].value
    assert list(table["layer"]) == [layer["name"] for layer in store.run(run_id)["layers"]]


def test_a_float_run_explains_what_is_missing(store: Store) -> None:
    (run_id,) = finished(store, [(Backend.TFLITE, "float32")])
    test = open_page("layers", run=run_id)
    assert not test.exception
    figures = {metric.label: metric for metric in test.metric}
    assert figures["Levels used"].value == "–"
    assert "integer grid" in figures["Levels used"].help
    assert "Every layer computes exactly what the float model computes." in texts(test)


def test_an_example_opens_by_its_id(store: Store, examples: list[str]) -> None:
    test = open_page("layers", run=examples[1], layer="dense")
    assert not test.exception
    assert test.subheader[0].value == "dense"


@pytest.mark.parametrize(
    ("query", "title"),
    [
        ({"run": "nobody"}, "There is no run “nobody”."),
        ({"run": "example-none"}, "There is no example “example-none”."),
        ({"layer": "conv9"}, "There is no layer of this run called “conv9”."),
    ],
)
def test_an_unknown_run_or_layer_gets_a_designed_message(store: Store, query: dict[str, str], title: str) -> None:
    run_id = finished(store)[0]
    test = open_page("layers", **({"run": run_id} | query))
    assert not test.exception
    assert test.warning[0].title == title


def test_a_crashed_run_says_why_it_has_no_layers(store: Store) -> None:
    submit(store)
    test = open_page("layers", run=crash_next(store))
    assert not test.exception
    assert "The backend crashed on this model." in texts(test)


def test_a_changed_layer_becomes_a_new_run_shown_against_the_old_one(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pages._ui.closed_loop_view.ensure_worker", lambda: None)
    monkeypatch.setattr("pages._ui.tray.ensure_worker", lambda: None)
    run_id = finished(store)[0]
    test = open_page("layers", run=run_id, layer="conv1")
    key = f"layers_change_{run_id}_conv1"
    assert test.button(key=f"{key}_apply").disabled
    test.checkbox(key=f"{key}_float").check().run()
    test.button(key=f"{key}_apply").click().run()
    assert not test.exception
    (new,) = store.runs(status=Status.QUEUED)
    assert new["keep_float"] == ["conv1"]
    assert new["measurement"] == store.run(run_id)["measurement"]
    assert "is measured" in test.get("progress")[0].text


def test_what_a_technique_cannot_do_is_disabled_with_the_reason(store: Store) -> None:
    run_id = finished(store)[2]
    test = open_page("layers", run=run_id, layer="conv1")
    more = test.checkbox(key=f"layers_change_{run_id}_conv1_bits")
    assert more.disabled
    assert "one width for all layers" in more.help


def test_choosing_another_run_forgets_the_layer(store: Store) -> None:
    first, second, _ = finished(store)
    test = open_page("layers", run=first, layer="conv1")
    test.selectbox(key="layers_run").set_value(second).run()
    assert test.query_params["run"] == second
    assert "layer" not in test.query_params
