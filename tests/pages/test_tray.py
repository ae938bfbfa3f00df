"""The job tray: there while something is active, gone when nothing is, and a toast for each experiment that ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from stored_runs import crash_next, finish_next, finished, open_page, start_next, submit

from experiments import sketches
from experiments.store.store import Store
from pages._ui import tray


@pytest.fixture
def store(clean_home: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The store behind the pages, whose worker never starts."""
    monkeypatch.setattr(tray, "ensure_worker", lambda: None)
    monkeypatch.setattr(sketches, "ensure", lambda _model: None)
    clean_home.mkdir(exist_ok=True)
    return Store(clean_home)


def bars(test: Any) -> list[str]:
    return [bar.text for bar in test.progress]


@pytest.mark.parametrize(
    "script", ["overview", "new_experiment", "compare", "layers", "sensitivity", "playground", "my_models", "runs"]
)
def test_every_page_says_what_is_under_way(script: str, store: Store) -> None:
    submit(store)
    finish_next(store)
    store.report(start_next(store), 0.4, "Quantizing")
    test = open_page(script)
    assert not test.exception
    (words,) = (bar for bar in bars(test) if bar.startswith("**"))
    assert words.startswith("**fashion-cnn** 1 of 3 done")
    assert words.endswith("TFLite · Full int8: Quantizing")


def test_an_idle_app_has_no_tray_and_no_clock(store: Store) -> None:
    finished(store)
    test = open_page("runs")
    assert bars(test) == []
    assert not test.get("toast")


def test_an_experiment_that_ends_is_announced_once_on_whatever_page(store: Store) -> None:
    submit(store)
    test = open_page("runs")
    finish_next(store)
    crash_next(store)
    finish_next(store)
    test.switch_page("layers.py").run()
    assert [toast.value for toast in test.toast] == ["**fashion-cnn**: 2 of 3 done, 1 failed."]
    assert bars(test) == []
    test.run()
    assert not test.toast


def test_what_ended_before_this_visit_is_no_news(store: Store) -> None:
    finished(store)
    test = open_page("runs")
    assert not test.toast


def test_experiments_are_cancelled_from_the_tray(store: Store) -> None:
    experiment_id, _ = submit(store)
    test = open_page("runs")
    test.button(key=f"tray_cancel_{experiment_id}").click().run()
    assert {run["status"] for run in store.runs()} == {"cancelled"}


def test_a_trial_that_waits_for_its_latency_says_so() -> None:
    row = {"status": "queued", "phase": "latency", "stage": "", "backend": "tflite", "technique": "float16"}
    assert tray._now([row]) == "TFLite · Float16: Waiting for latency: measured alone, together with the others"


def test_more_experiments_than_fit_are_counted(store: Store) -> None:
    for _ in range(tray.MOST_EXPERIMENTS + 2):
        submit(store)
    test = open_page("runs")
    assert len(bars(test)) == tray.MOST_EXPERIMENTS
    assert "2 more experiments wait for these." in [caption.value for caption in test.caption]
