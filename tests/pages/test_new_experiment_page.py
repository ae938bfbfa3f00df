"""The new-experiment page: the form, what it says before Run, what Run does, and the view of what runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stored_runs import PAIRS, crash_next, finish_next, finished, open_page, start_next, submit

from experiments.jobs import worker
from experiments.store.store import Store
from models import library, zoo
from pages._ui import progress, tray
from pages._ui.matrix import presets
from quantizers.schema import Backend, Status


@pytest.fixture
def store(clean_home: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The store behind the page, whose worker never starts."""
    for module in (worker, tray):
        monkeypatch.setattr(module, "ensure_worker", lambda: None)
    clean_home.mkdir(exist_ok=True)
    return Store(clean_home)


def texts(test: Any) -> str:
    return "\n".join(str(element.value) for element in [*test.markdown, *test.caption, *test.title, *test.subheader])


def test_every_model_has_a_card_and_the_first_is_chosen(store: Store) -> None:
    test = open_page("new_experiment")
    assert not test.exception
    for info in zoo.catalogue():
        assert f"**{info.title}**" in texts(test)
    assert test.button(key=f"new_model_{zoo.catalogue()[0].id}").label == "Chosen"


def test_a_card_says_what_can_be_measured_of_its_model(store: Store) -> None:
    words = [caption.value for caption in open_page("new_experiment").caption]
    (sentences,) = (text for text in words if text.startswith("Sentence embedding"))
    assert "No classes to agree on: output SQNR and cosine only" in sentences
    assert "agreement only" not in sentences
    assert any("No labelled data at hand: error and agreement only" in text for text in words)


def test_a_model_that_cannot_be_used_here_is_folded_away_with_what_it_needs(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "find_spec", lambda name: None)
    test = open_page("new_experiment")
    assert not [button for button in test.button if button.key == "new_model_torchvision-resnet18"]
    test.session_state["new_others"] = True
    test.run()
    assert test.button(key="new_model_torchvision-resnet18").disabled
    (folded,) = (expander for expander in test.expander if "what each of them needs" in expander.label)
    assert any("pip install --no-deps torchvision==" in caption.value for caption in folded.caption)


def test_the_defaults_are_written_out_with_an_honest_estimate(store: Store) -> None:
    test = open_page("new_experiment", new_model="mnist-cnn")
    count = len(presets()["Quick look"])
    assert f"**{count} trials**, no estimate yet" in texts(test)
    assert "200 calibration and 1\u202f000 evaluation samples of mnist-5k, seed 0, 1 thread, quick latency protocol" in texts(
        test
    )


def test_an_estimate_is_learnt_from_runs_that_finished(store: Store) -> None:
    finished(store, model="fashion-cnn")
    test = open_page("new_experiment", new_model="fashion-cnn", new_techniques="tflite:static_wi8_ai8")
    assert "**1 trial**, about 1\u202fs on this machine" in texts(test)


def test_ticking_a_cell_writes_the_address(store: Store) -> None:
    test = open_page("new_experiment", new_techniques="tflite:float32")
    test.checkbox(key="new_cell_tflite_float16").check().run()
    assert test.query_params["new_techniques"] == "tflite:float32,tflite:float16"
    assert "**2 trials**" in texts(test)
    test.button(key="new_preset_Clear").click().run()
    assert not test.checkbox(key="new_cell_tflite_float16").value
    assert test.warning[0].title == "No technique was chosen."
    assert not [button for button in test.button if button.key == "new_run"]


def test_an_impossible_cell_is_disabled_with_its_reason(store: Store) -> None:
    test = open_page("new_experiment")
    cell = test.checkbox(key="new_cell_tflite_bfloat16")
    assert cell.disabled
    assert "bfloat16 kernels" in cell.help


def test_choosing_a_model_brings_its_data(store: Store) -> None:
    test = open_page("new_experiment", new_model="mnist-cnn")
    test.button(key="new_model_fashion-cnn").click().run()
    assert test.query_params["new_model"] == "fashion-cnn"
    assert test.selectbox(key="new_data_choice").value == "fashion-mnist"


def test_run_stores_the_experiment_and_shows_it(store: Store) -> None:
    test = open_page("new_experiment", new_model="mnist-mlp", new_techniques="tflite:static_wi8_ai8,pytorch:float32")
    test.number_input(key="new_calibration").set_value(20)
    test.number_input(key="new_evaluation").set_value(50)
    test.selectbox(key="new_latency").set_value("none")
    test.selectbox(key="new_option_io").set_value("uint8")
    test.run()
    test.button(key="new_run").click().run()
    assert not test.exception
    first, second = store.runs()
    assert (first["technique"], second["technique"]) == ("static_wi8_ai8", "float32")
    assert first["options"]["io"] == "uint8"
    assert first["measurement"]["calibration_samples"] == 20
    assert first["measurement"]["latency"] == "none"
    assert test.query_params["new_experiment"] == first["experiment_id"]
    assert "Experiment on mnist-mlp" in texts(test)


@pytest.mark.parametrize(
    ("query", "title"),
    [
        ({"new_model": "mnist-cn"}, "There is no model called “mnist-cn”."),
        ({"new_model": "mnist-cnn", "new_data": "photos"}, "MNIST CNN takes samples of shape"),
        ({"new_model": "mnist-cnn", "new_data": "no-such"}, "There is no dataset called “no-such”."),
        ({"new_model": "mnist-cnn", "new_calibration": "501"}, "501 calibration samples were asked for"),
        ({"new_experiment": "gone"}, "There is no experiment “gone”."),
    ],
)
def test_bad_input_gets_a_designed_message(store: Store, query: dict[str, str], title: str) -> None:
    test = open_page("new_experiment", **query)
    assert not test.exception
    assert any(title in warning.title for warning in test.warning), [warning.title for warning in test.warning]
    assert store.runs() == []


def test_zero_calibration_samples_are_refused(store: Store) -> None:
    test = open_page("new_experiment", new_model="mnist-mlp")
    test.number_input(key="new_calibration").set_value(0).run()
    assert not test.exception
    assert test.warning[0].title == "0 calibration samples were asked for."


def test_nan_in_a_persons_own_data_is_refused(store: Store, tmp_path: Path) -> None:
    samples = np.zeros((20, 28, 28, 1), np.float32)
    samples[3, 3, 3] = np.nan
    np.savez(tmp_path / "bad.npz", x=samples)
    test = open_page("new_experiment", new_model="mnist-cnn", new_data=str(tmp_path / "bad.npz"))
    assert not test.exception
    assert "NaN" in test.warning[0].title


def test_techniques_in_the_address_that_cannot_run_are_named(store: Store) -> None:
    test = open_page("new_experiment", new_techniques="tflite:float32,tflite:bfloat16")
    assert "tflite:bfloat16" in test.warning[0].value
    assert "**1 trial**" in texts(test)


def test_an_experiment_shows_each_trial_in_its_state(store: Store) -> None:
    experiment_id, _ = submit(store)
    done, running = finish_next(store), start_next(store)
    store.report(running, 0.5, "Quantizing")
    test = open_page("new_experiment", new_experiment=experiment_id)
    assert not test.exception
    assert "1 of 3 done" in test.progress[0].text
    assert test.progress[1].text == "Quantizing"
    assert "smaller" in texts(test)
    assert [link.page for link in test.page_link if link.label == "Layers"]
    assert done != running
    test.button(key=f"new_cancel_{running}").click().run()
    assert store.cancel_requests() == {running}


def test_many_trials_that_wait_are_folded_away(store: Store) -> None:
    codes = ("float32", "dynamic_wi8", "static_wi8_ai8", "static_wi8_ai16", "float16", "weight_only_wi8", "weight_only_wi4")
    pairs = [(backend, code) for backend in (Backend.TFLITE, Backend.ONNXRUNTIME) for code in codes]
    experiment_id, ids = submit(store, pairs)
    running = start_next(store)
    test = open_page("new_experiment", new_experiment=experiment_id)
    assert not test.exception
    assert f"{len(ids) - 1} trials wait for their turn" in [one.label for one in test.expander]
    cancels = [one.key for one in test.button if one.key and one.key.startswith("new_cancel_")]
    assert cancels == [f"new_cancel_{running}"]


def test_the_page_polls_while_a_trial_is_active_and_then_no_more(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    clocks: list[Any] = []
    monkeypatch.setattr(progress, "fragment", lambda draw, *, every: clocks.append(every) or draw)
    experiment_id, ids = submit(store)
    test = open_page("new_experiment", new_experiment=experiment_id)
    assert clocks.pop() == progress.POLL
    for _ in ids:
        finish_next(store)
    test.run()
    assert clocks.pop() is None


def test_the_log_of_what_runs_is_shown_when_it_is_unfolded(store: Store) -> None:
    experiment_id, _ = submit(store)
    log = store.log_path(start_next(store))
    log.parent.mkdir(exist_ok=True)
    log.write_text("loading\ncalibrating on 20 samples\n", encoding="utf-8")
    test = open_page("new_experiment", new_experiment=experiment_id)
    assert not test.code
    test.session_state["new_logs"] = True
    test.run()
    assert [code.value for code in test.code] == ["loading\ncalibrating on 20 samples"]


def test_a_crash_is_shown_with_what_to_do_and_the_rest_goes_on(store: Store) -> None:
    experiment_id, _ = submit(store)
    crash_next(store)
    for _ in PAIRS[1:]:
        finish_next(store)
    test = open_page("new_experiment", new_experiment=experiment_id)
    assert "The backend crashed on this model." in texts(test)
    assert "The run's log holds its last words." in texts(test)
    assert "2 of 3 done" in texts(test)
    assert "Compare these" in [link.label for link in test.page_link]


def test_change_and_run_again_fills_the_form_in(store: Store) -> None:
    experiment_id, ids = submit(store)
    for _ in ids:
        finish_next(store)
    test = open_page("new_experiment", new_experiment=experiment_id)
    test.button(key="new_leave").click().run()
    assert not test.exception
    assert test.number_input(key="new_calibration").value == 200
    assert test.checkbox(key="new_cell_tflite_dynamic_wi8").value
    assert not test.checkbox(key="new_cell_tflite_float32").value
    assert "new_experiment" not in test.query_params


def test_techniques_with_different_defaults_keep_their_own(store: Store) -> None:
    test = open_page("new_experiment", new_techniques="onnxruntime:weight_only_wi4,onnxruntime:weight_only_wi2")
    control = test.selectbox(key="new_option_scheme")
    assert control.value == "default"
    test.button(key="new_run").click().run()
    assert {run["options"]["scheme"] for run in store.runs()} == {"symmetric", "affine"}


def test_a_value_that_one_technique_lacks_is_refused(store: Store) -> None:
    pairs = "onnxruntime:static_wi8_ai8,onnxruntime:dynamic_wi8"
    test = open_page("new_experiment", new_techniques=pairs, new_option_types="s8s8")
    assert test.warning[0].title == "There is no value of types called “s8s8”."
    assert store.runs() == []


def test_interrupted_trials_are_resumed(store: Store) -> None:
    experiment_id, ids = submit(store)
    for _ in ids[1:]:
        finish_next(store)
    store.end(start_next(store), Status.INTERRUPTED)
    test = open_page("new_experiment", new_experiment=experiment_id)
    assert "Interrupted" in texts(test)
    test.button(key="new_resume").click().run()
    assert [run["status"] for run in store.runs()] == ["done", "done", "queued"]
    assert "2 of 3 done" in test.progress[0].text


def test_cancel_all_ends_what_is_queued(store: Store) -> None:
    experiment_id, _ = submit(store)
    test = open_page("new_experiment", new_experiment=experiment_id)
    test.button(key="new_cancel").click().run()
    assert {run["status"] for run in store.runs()} == {"cancelled"}
    assert not test.progress
