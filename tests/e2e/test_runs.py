"""The runs page by hand: rows are selected with the mouse, compared, deleted and brought back."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from experiments.spec import ExperimentSpec, LatencyProtocol, Measurement, plan
from experiments.store.store import Store
from quantizers.schema import Backend, Status

pytestmark = pytest.mark.browser

ROW = 33.0
"""Height of a row of the table, in pixels."""
CHECKBOX = 16.0


@pytest.fixture
def cancelled(server) -> int:
    """Three runs of the server's store, asked for and cancelled before a worker saw them."""
    store = Store(server.home)
    measurement = Measurement("mnist-5k", latency=LatencyProtocol.NONE)
    pairs = tuple((Backend.TFLITE, code) for code in ("float32", "dynamic_wi8", "static_wi8_ai8"))
    store.cancel(experiment_id=store.submit(plan(ExperimentSpec("mnist-mlp", pairs, measurement))))
    return len(store.runs(status=Status.CANCELLED))


def select(page: Page, *rows: int) -> None:
    """Ticks rows of the table, which is drawn on a canvas; 0 is the first."""
    box = page.get_by_test_id("stDataFrame").bounding_box()
    assert box is not None
    for row in rows:
        page.mouse.click(box["x"] + CHECKBOX, box["y"] + ROW * (row + 1.5))


def test_deleted_runs_come_back(server, visit, cancelled: int) -> None:
    page = visit(server).open("/runs?runs_model=mnist-mlp&runs_status=Cancelled")
    expect(page.get_by_text(f"{cancelled} runs.")).to_be_visible()
    select(page, 0, 2)
    page.get_by_role("button", name="Delete 2").click()
    expect(page.get_by_text("2 runs deleted.")).to_be_visible()
    expect(page.get_by_text(f"{cancelled - 2} run")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text(f"{cancelled} runs.")).to_be_visible()


def test_selected_examples_are_compared_and_stay(server, visit) -> None:
    visitor = visit(server)
    page = visitor.open("/runs?runs_model=fashion-cnn&runs_backend=TFLite")
    select(page, 0, 1)
    expect(page.get_by_role("button", name="Delete 0")).to_be_disabled()
    page.get_by_role("link", name="Compare 2").click()
    expect(page.get_by_role("heading", name="Compare", exact=True)).to_be_visible()
    assert page.url.count("example-fashion-cnn--tflite--") == 2


def test_the_drawer_opens_for_a_row_and_leaves_the_address_when_closed(server, visit) -> None:
    page = visit(server).open("/runs?runs_model=fashion-cnn")
    select(page, 0)
    page.get_by_role("button", name="Details").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert "runs_open=example-fashion-cnn" in page.url
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.wait_for_url(lambda url: "runs_open" not in url)
