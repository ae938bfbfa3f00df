"""Analysis by hand: a layer kept in float becomes a run beside the old one, a cell of the heat map chooses its layer, and an
analysis of a float model runs from its button to a budget."""

from __future__ import annotations

import re
import time

import pytest
from playwright.sync_api import Page, expect

from experiments.jobs.worker import ensure_worker
from experiments.library import Library
from experiments.spec import ExperimentSpec, LatencyProtocol, Measurement, plan
from experiments.store.store import Store
from quantizers.schema import Backend, Status

pytestmark = pytest.mark.browser

PATIENCE = 120.0
TALL = {"width": 1280, "height": 2600}
EXAMPLES = "example-fashion-cnn--tflite--static_wi8_ai8,example-fashion-cnn--pytorch--static_wi8_ai8"


@pytest.fixture
def quantized(server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A finished run of the smallest model, on few samples and without latency."""
    monkeypatch.setenv("QUANTSCOPE_HOME", str(server.home))
    store = Store(server.home)
    measurement = Measurement("mnist-5k", calibration_samples=16, eval_samples=64, latency=LatencyProtocol.NONE)
    trial = plan(ExperimentSpec("mnist-mlp", ((Backend.ONNXRUNTIME, "dynamic_wi8"),), measurement))
    experiment_id = store.submit(trial)
    ensure_worker()
    deadline = time.monotonic() + PATIENCE
    while (run := store.runs(experiment_id=experiment_id)[0])["status"] != Status.DONE.value:
        assert Status(run["status"]).active, run["error"]
        assert time.monotonic() < deadline, run["stage"]
        time.sleep(0.2)
    return str(run["run_id"])


def cell(page: Page, text: str) -> tuple[float, float]:
    """The middle of the cell of the heat map that shows `text`."""
    chart = page.get_by_test_id("stPlotlyChart").filter(has=page.locator(".heatmaplayer"))
    box = chart.locator("g.textpoint", has_text=text).first.bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_a_layer_kept_in_float_is_measured_and_shown_against_the_old_run(server, visit, quantized: str) -> None:
    layers = [layer["name"] for layer in Store(server.home).run(quantized)["layers"]]
    page = visit(server).open(f"/layers?run={quantized}&layer={layers[0]}")
    expect(page.get_by_role("button", name="Apply")).to_be_disabled(timeout=1000 * PATIENCE)
    page.get_by_text("Keep float", exact=True).click()
    page.get_by_role("button", name="Apply").click()
    page.wait_for_url(re.compile(rf"/compare\?.*runs={quantized}"), timeout=1000 * PATIENCE)
    expect(page.get_by_text(f"Output SQNR of {layers[0]}")).to_be_visible(timeout=1000 * PATIENCE)
    assert f"layer={layers[0]}" in page.url
    (new,) = (run for run in Store(server.home).runs(status=Status.DONE) if run["run_id"] != quantized)
    assert new["keep_float"] == [layers[0]]
    assert new["layers_quantized"] == len(layers) - 1


def test_a_cell_of_the_heat_map_chooses_its_layer(server, visit) -> None:
    visitor = visit(server)
    page = visitor.open(f"/compare?runs={EXAMPLES}&layer=dense")
    value = next(
        layer["output"]["sqnr_db"]
        for layer in Library().run("example-fashion-cnn--tflite--static_wi8_ai8")["layers"]
        if layer["name"] == "conv1"
    )
    page.set_viewport_size(TALL)  # so that the map needs no scrolling to
    expect(page.get_by_text("Click a cell to choose its layer")).to_be_visible()
    visitor.settle()
    page.mouse.click(*cell(page, f"{value:.1f}"))
    page.wait_for_url(re.compile("layer=conv1"))
    expect(page.get_by_text("What happened to the weights of conv1")).to_be_visible(timeout=1000 * PATIENCE)
    visitor.settle()


def test_an_analysis_runs_from_its_button_to_a_budget(server, visit) -> None:
    visitor = visit(server)
    page = visitor.open("/sensitivity?sens_model=mnist-cnn")
    page.get_by_role("button", name="Find what matters").click()
    expect(page.get_by_text("of what all 2 layers cost one by one")).to_be_visible(timeout=1000 * PATIENCE)
    page.get_by_role("button", name="Find mixed precision").click()
    expect(page.get_by_role("button", name="Run this point")).to_be_visible(timeout=1000 * PATIENCE)
    expect(page.get_by_text("Bits of each layer within this budget")).to_be_visible()
    again = visit(server).open("/sensitivity")
    expect(again.get_by_text("of what all 2 layers cost one by one")).to_be_visible(timeout=1000 * PATIENCE)
