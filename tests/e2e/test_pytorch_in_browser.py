"""PyTorch's techniques from the page, with real trials: weights in groups, and better rounding with what it gained."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from experiments.store.store import Store

pytestmark = [pytest.mark.browser, pytest.mark.adapter]

MAIN = "stMainBlockContainer"
TRIAL_MS = 400_000
LOOK_MS = 90_000


def run_trials(page, count: int) -> None:
    """Presses Run and waits for the results."""
    expect(page.get_by_text(f"{count} trial", exact=False).first).to_be_visible(timeout=LOOK_MS)
    page.get_by_role("button", name="Run", exact=True).click(timeout=LOOK_MS)
    expect(page.get_by_test_id(MAIN).get_by_text(f"{count} of {count} done", exact=True)).to_be_visible(timeout=TRIAL_MS)
    assert page.get_by_text("Failed").count() == 0


def test_weights_in_groups_are_ticked_run_and_inspected(server, visit) -> None:
    visitor = visit(server)
    page = visitor.open("/new?new_model=mnist-mlp&new_evaluation=64&new_latency=none&new_techniques=")
    for cell in ("weight_only_wi4_g32", "weight_only_wi4"):
        page.locator(f".st-key-new_cell_pytorch_{cell} label").click()
    run_trials(page, 2)
    runs = {run["technique"]: run for run in Store(server.home).runs(model="mnist-mlp")}
    grouped, whole = runs["weight_only_wi4_g32"], runs["weight_only_wi4"]
    assert grouped["quality"]["output_sqnr_db"] > whole["quality"]["output_sqnr_db"]
    assert grouped["size"]["bytes"] > whole["size"]["bytes"], "more scales are stored"
    assert (grouped["execution"], grouped["latency"]) == ("simulated", None)
    page = visitor.open(f"/layers?run={grouped['run_id']}&layer=dense1")
    expect(page.get_by_role("heading", name="dense1")).to_be_visible()
    expect(page.get_by_test_id(MAIN)).to_contain_text(re.compile("group", re.IGNORECASE))


def test_learned_rounding_is_chosen_and_shows_its_gain(server, visit) -> None:
    visitor = visit(server)
    conditions = "new_calibration=40&new_evaluation=80&new_latency=none&new_option_rounding=learned"
    page = visitor.open(f"/new?new_model=mnist-cnn&{conditions}&new_techniques=pytorch:static_wi4_ai8")
    page.get_by_text("Options", exact=True).click()
    expect(page.get_by_role("combobox", name="Rounding")).to_be_visible(timeout=LOOK_MS)
    run_trials(page, 1)
    (run,) = Store(server.home).runs(model="mnist-cnn")
    assert run["options"]["rounding"] == "learned"
    gain = run["quality"]["output_sqnr_db"] - run["improvement"]["plain"]["output_sqnr_db"]
    assert gain > 0
    page = visitor.open(f"/runs?runs_open={run['run_id']}")
    drawer = page.get_by_role("dialog")
    expect(drawer).to_contain_text("Against plain rounding")
    expect(drawer).to_contain_text(f"(+{gain:.1f}")
    expect(drawer).to_contain_text("points")
