"""Sensitivity: what the address asks for, the empty state, a kept result shown at once, and a point that becomes a run."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from made_analyses import analysis, frontier
from stored_runs import open_page
from streamlit.testing.v1 import AppTest

from experiments.analysis import Analyses, AnalysisSpec
from experiments.store.store import Store
from pages._ui.sensitivity import Request
from quantizers.errors import TrialError
from quantizers.schema import Status

REQUEST = Request("mnist-cnn", "mnist-5k")


def keep(spec: AnalysisSpec, document: dict[str, object]) -> None:
    """Leaves a result where an analysis would."""
    folder = Analyses().folder(spec)
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text(json.dumps(asdict(spec)), encoding="utf-8")
    (folder / "result.json").write_text(json.dumps(document), encoding="utf-8")


@pytest.fixture
def kept(clean_home: Path) -> None:
    head = {"model": REQUEST.model, "data": REQUEST.data}
    keep(REQUEST.sensitivity, analysis() | head)
    keep(REQUEST.frontier, frontier() | head)


def texts(test: AppTest) -> str:
    return "\n".join(str(element.value) for element in [*test.markdown, *test.caption])


def test_nothing_yet_is_one_sentence_and_one_button() -> None:
    test = open_page("sensitivity")
    assert not test.exception
    assert "No analysis of" in texts(test)
    assert [button.label.split()[0] for button in test.button] == ["Find"]


def test_the_last_result_is_there_without_a_click(kept: None) -> None:
    test = open_page("sensitivity")
    assert not test.exception
    assert test.selectbox(key="sens_model_choice").value == "mnist-cnn"
    assert "**conv1** at 4 bits costs 75" in texts(test)
    assert "Spearman 0.970" in texts(test)
    assert len(test.get("plotly_chart")) == 3


def test_the_address_chooses_width_order_and_layer(kept: None) -> None:
    test = open_page("sensitivity", sens_shown="8", sens_order="execution", layer="conv3")
    assert not test.exception
    assert test.selectbox(key="sens_layer").value == "conv3"
    assert "**conv1** at 8 bits" in texts(test)


def test_an_unknown_model_is_named(clean_home: Path) -> None:
    test = open_page("sensitivity", sens_model="nobody")
    assert not test.exception
    assert "nobody" in test.warning[0].proto.title


def test_a_failure_says_why_and_can_be_tried_again() -> None:
    error = TrialError("The analysis failed.", "Try fewer samples.")
    keep(REQUEST.sensitivity, {"error": error.to_dict()})
    test = open_page("sensitivity", sens_model="mnist-cnn")
    assert test.warning[0].proto.title == "The analysis failed."
    assert [button.label for button in test.button] == ["Try again"]


def test_a_budget_chooses_the_point_and_a_point_becomes_a_run(kept: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("sensitivity_frontier", "tray"):
        monkeypatch.setattr(f"pages._ui.{place}.ensure_worker", lambda: None)
    test = open_page("sensitivity")
    (budget,) = test.slider
    budget.set_value(budget.max).run()
    assert "**56.1" in texts(test)
    test.button(key="sens_run").click().run()
    assert not test.exception
    (run,) = Store().runs(status=Status.QUEUED)
    assert run["technique"] == 'mixed:{"*":8}'
    again = open_page("sensitivity", **{"sens_budget_mnist-cnn_bytes": str(budget.max)})
    assert "Follow it" in [link.label for link in again.page_link]
