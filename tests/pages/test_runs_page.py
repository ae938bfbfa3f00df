"""The runs page: the listing, its filters, delete with undo, and the drawer of one run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from stored_runs import PAIRS, crash_next, finish_next, finished, open_page, submit

from experiments.jobs import worker
from experiments.store.store import Store
from pages._ui import tray
from quantizers.schema import Status


@pytest.fixture
def store(clean_home: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The store behind the page, whose worker never starts."""
    for module in (worker, tray):
        monkeypatch.setattr(module, "ensure_worker", lambda: None)
    clean_home.mkdir(exist_ok=True)
    return Store(clean_home)


def listed(test: Any) -> list[tuple[str, str]]:
    rows = test.dataframe[0].value
    return list(zip(rows["backend"], rows["technique"], strict=True))


def texts(test: Any) -> str:
    return "\n".join(str(element.value) for element in [*test.markdown, *test.caption])


def test_nothing_yet_offers_one_action(store: Store) -> None:
    test = open_page("runs")
    assert not test.exception
    assert "Nothing has been run yet." in texts(test)
    assert [link.label for link in test.page_link] == ["Set up the first experiment"]


def test_runs_and_examples_are_listed_and_told_apart(store: Store, examples: list[str]) -> None:
    finished(store)
    rows = open_page("runs").dataframe[0].value
    assert list(rows["where"])[: len(PAIRS)] == ["This machine"] * len(PAIRS)
    assert (rows["where"] == "Bundled example").sum() >= len(examples)


def test_filters_come_from_the_address(store: Store) -> None:
    finished(store)
    test = open_page("runs", runs_backend="TFLite", runs_technique="Full int8")
    assert listed(test) == [("TFLite", "Full int8")]
    test.multiselect(key="runs_technique").set_value([]).run()
    assert listed(test) == [("TFLite", "Full int8"), ("TFLite", "Dynamic int8")]


def test_a_filter_that_fits_nothing_says_so(store: Store) -> None:
    finished(store, PAIRS[:1])
    finished(store, PAIRS[1:], model="mnist-cnn")
    test = open_page("runs", runs_backend="PyTorch", runs_model="mnist-cnn")
    assert "No run fits these filters." in texts(test)


def test_deleting_is_undone_with_one_press(store: Store) -> None:
    finished(store)
    test = open_page("runs")
    victim = store.runs()[0]["run_id"]
    store.delete([victim])
    test.session_state["runs_deleted"] = [victim]
    test.run()
    assert len(listed(test)) == len(PAIRS) - 1
    assert "1 run deleted." in texts(test)
    test.button(key="runs_undo").click().run()
    assert len(listed(test)) == len(PAIRS)
    assert "deleted" not in texts(test)


def test_the_drawer_of_a_finished_run_says_what_was_asked_and_measured(store: Store) -> None:
    run_id = finished(store)[1]
    test = open_page("runs", runs_open=run_id)
    assert not test.exception
    rows = {key: value for element in test.table for key, value in element.value.iloc[:, 0].items()}
    assert rows["Technique"] == "`static_wi8_ai8`"
    assert rows["Evaluation samples"] == "10\u202f000"
    assert rows["CPU"] == "Test CPU"
    assert rows["p50"].startswith("0.")
    assert "median of 1\u202f500 samples" in rows["p50"]
    assert rows["Machine"] == "quiet; blocks measured again because something else was at work: 2"
    assert rows["First inference"] == "0.600\u202fms"
    assert rows["Io"] == "int8"
    assert "Artefact (.tflite)" in [button.label for button in test.get("download_button")]


def test_the_drawer_of_a_crash_shows_error_hint_and_log(store: Store) -> None:
    submit(store)
    test = open_page("runs", runs_open=crash_next(store))
    assert "The backend crashed on this model." in texts(test)
    assert "The run's log holds its last words." in texts(test)
    assert test.code[0].value == "loading\nIllegal instruction"


def test_an_unknown_run_gets_a_designed_message(store: Store) -> None:
    finished(store)
    test = open_page("runs", runs_open="nobody")
    assert not test.exception
    assert test.warning[0].title == "There is no run “nobody”."


def test_every_state_is_written_as_a_word(store: Store) -> None:
    submit(store)
    finish_next(store)
    crash_next(store)
    store.end(store.claim(pid=1) or "", Status.INTERRUPTED)
    words = [row[0] for row in open_page("runs").dataframe[0].value["status"]]
    assert words == ["Done", "Failed", "Interrupted"]


def test_many_runs_come_in_pages(store: Store) -> None:
    submit(store, PAIRS * 20)
    test = open_page("runs")
    assert "60 runs. Select rows" in texts(test)
    assert len(listed(test)) == 50
    assert len(listed(open_page("runs", runs_page="2"))) == 10


def test_runs_are_searched_and_sorted_by_the_store(store: Store) -> None:
    first, second, _ = finished(store)
    store.note(second, "the one for the talk")
    test = open_page("runs", runs_search="TALK")
    assert listed(test) == [("TFLite", "Full int8")]
    test.text_input(key="runs_search").set_value("").run()
    test.selectbox(key="runs_sort").set_value("Fastest").run()
    assert listed(test)[0][0] == "TFLite"
    assert store.run(first)["notes"] == ""


def test_tags_and_notes_are_kept_from_the_drawer(store: Store) -> None:
    run_id = finished(store)[0]
    test = open_page("runs", runs_open=run_id)
    test.multiselect(key=f"runs_tags_{run_id}").set_value(["best so far"]).run()
    test.text_area(key=f"runs_notes_{run_id}").set_value("Shown on Monday.").run()
    assert not test.exception
    assert (store.run(run_id)["tags"], store.run(run_id)["notes"]) == (["best so far"], "Shown on Monday.")
    assert listed(open_page("runs", runs_tag="best so far")) == [("PyTorch", "Full int8")]
    test.multiselect(key=f"runs_tags_{run_id}").set_value([]).run()
    assert store.run(run_id)["tags"] == []


def test_an_impossible_tag_is_refused_in_words(store: Store) -> None:
    run_id = finished(store)[0]
    test = open_page("runs", runs_open=run_id)
    test.multiselect(key=f"runs_tags_{run_id}").set_value(["a, b"]).run()
    assert test.warning[0].title == "“a, b” cannot be a tag."
    assert store.run(run_id)["tags"] == []
