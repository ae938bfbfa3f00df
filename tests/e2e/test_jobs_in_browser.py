"""Jobs in a browser, with real trials: what is started goes on, whatever is closed or killed, and is told when it has ended."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import expect

from benchmarks.suite.app_server import running_app
from experiments.store.store import Store
from quantizers.schema import Status

pytestmark = [pytest.mark.browser, pytest.mark.adapter]

QUICKEST = "new_calibration=20&new_evaluation=100&new_latency=none"
MLP = f"/new?new_model=mnist-mlp&{QUICKEST}"
TRIAL_MS = 150_000
SOON_MS = 90_000


def processes(home: Path, module: str) -> list[psutil.Process]:
    """The living processes of a data directory that run `module`."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if module not in (process.info["cmdline"] or ()):
            continue
        try:
            if process.environ().get("QUANTSCOPE_HOME") == str(home) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_for(fact: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


def child_runs(home: Path) -> bool:
    return bool(processes(home, "experiments.jobs.child"))


def press_run(page) -> None:
    page.get_by_role("button", name="Run", exact=True).click(timeout=SOON_MS)
    expect(page.get_by_role("heading", name="Experiment on mnist-")).to_be_visible(timeout=SOON_MS)


def test_a_job_outlives_its_tab_and_its_server(tmp_path: Path, visit) -> None:
    home = tmp_path / "home"
    with running_app(home) as server:
        visitor = visit(server)
        page = visitor.open(f"{MLP}&new_techniques=tflite:static_wi8_ai8,tflite:float16")
        press_run(page)
        wait_for(lambda: child_runs(home))
        address = page.url.removeprefix(server.url)
        page.goto("about:blank")
        os.kill(server.process.pid, signal.SIGKILL)
        wait_for(lambda: Store(home).runs(status=Status.DONE), 150)
        survivors = processes(home, "experiments.jobs.worker")
    assert survivors, "the worker went on without a server"
    with running_app(home) as server:
        page = visit(server).open(address)
        expect(page.get_by_text("2 of 2 done", exact=True)).to_be_visible(timeout=TRIAL_MS)
        expect(page.get_by_role("link", name="Layers")).to_have_count(3)  # two rows, and the navigation
        page.goto("about:blank")
    assert [run["status"] for run in Store(home).runs()] == ["done", "done"]


def test_one_trial_is_cancelled_and_the_other_is_announced_on_another_page(server, visit) -> None:
    page = visit(server).open(f"{MLP}&new_techniques=tflite:float32,tflite:dynamic_wi8&new_reuse=Measure+anew")
    press_run(page)
    page.get_by_role("button", name="Cancel", exact=True).last.click()
    expect(page.get_by_text(re.compile("Cancelled"))).to_be_visible(timeout=SOON_MS)
    page.get_by_role("link", name="Runs", exact=True).click()
    expect(page.get_by_role("heading", name="Runs")).to_be_visible(timeout=SOON_MS)
    toast = page.get_by_test_id("stToast")
    expect(toast).to_contain_text("1 of 2 done, 1 cancelled", timeout=TRIAL_MS)
    expect(page.locator(".st-key-tray")).to_have_count(0)
    page.get_by_role("link", name="Overview").click()
    expect(page.locator(".js-plotly-plot").first).to_be_visible(timeout=SOON_MS)
    expect(toast).to_have_count(0, timeout=SOON_MS)


def test_the_tray_cancels_a_whole_experiment_from_any_page(server, visit) -> None:
    visitor = visit(server)
    page = visitor.open(f"{MLP}&new_techniques=tflite:static_wi8_ai8,tflite:float16&new_reuse=Measure+anew")
    press_run(page)
    page.get_by_role("link", name="Overview").click()
    tray = page.locator(".st-key-tray")
    expect(tray).to_contain_text("0 of 2 done", timeout=SOON_MS)
    tray.get_by_role("button", name="Cancel all").click()
    expect(page.get_by_test_id("stToast")).to_contain_text("0 of 2 done, 2 cancelled", timeout=SOON_MS)
    expect(tray).to_have_count(0)
    assert not child_runs(server.home)


def test_an_idle_app_asks_for_nothing(server, visit) -> None:
    visitor = visit(server)
    sent: list[str] = []
    visitor.page.on("websocket", lambda socket: socket.on("framesent", lambda _: sent.append(socket.url)))
    page = visitor.open("/runs")
    page.wait_for_timeout(1000)
    before = len(sent)
    assert before, "the page talks to its server"
    page.wait_for_timeout(5000)
    assert len(sent) == before


def test_killed_workers_leave_trials_to_resume_and_only_those_run_again(server, visit) -> None:
    store = Store(server.home)
    visitor = visit(server)
    # Both are begun at once, and training takes longest: it is at work when the other has ended.
    page = visitor.open(f"{MLP}&new_techniques=tflite:weight_only_wi8,tflite:qat_wi8_ai8&new_priority=Before+all+others")
    press_run(page)
    experiment_id = page.url.split("new_experiment=")[1].split("&")[0]
    expect(page.get_by_text("1 of 2 done").first).to_be_visible(timeout=TRIAL_MS)
    for _ in range(2):  # A run is begun twice at most; then a person decides.
        wait_for(lambda: child_runs(server.home))
        for worker in processes(server.home, "experiments.jobs.worker"):
            worker.kill()
        wait_for(lambda: not child_runs(server.home))
    resume = page.get_by_role("button", name="Resume 1 interrupted")
    expect(resume).to_be_visible(timeout=SOON_MS)
    (kept,) = store.runs(experiment_id=experiment_id, status=Status.DONE)
    resume.click()
    expect(page.get_by_text("2 of 2 done", exact=True)).to_be_visible(timeout=TRIAL_MS)
    again = store.runs(ids=[kept["run_id"]])[0]
    assert (again["started"], again["finished"]) == (kept["started"], kept["finished"])


def test_training_shows_its_curve_while_it_runs_and_keeps_it(server, visit) -> None:
    visitor = visit(server)
    page = visitor.open(f"/new?new_model=mnist-cnn&{QUICKEST}&new_techniques=pytorch:qat_wi8_ai8&new_option_epochs=1")
    press_run(page)
    expect(page.locator(".js-plotly-plot").first).to_be_visible(timeout=TRIAL_MS)
    expect(page.get_by_text("after epoch 1").first).to_be_visible()
    expect(page.get_by_text("1 of 1 done", exact=True)).to_be_visible(timeout=TRIAL_MS)
    (run,) = Store(server.home).runs(model="mnist-cnn")
    assert {epoch["arm"] for epoch in run["training"]["epochs"]} == {"qat", "control"}
    page = visitor.open(f"/runs?runs_open={run['run_id']}")
    drawer = page.get_by_role("dialog")
    expect(drawer).to_contain_text("against its equal-budget control")
    expect(drawer.locator(".js-plotly-plot")).to_have_count(2)


def test_what_was_measured_before_is_taken(server, visit) -> None:
    store = Store(server.home)
    visitor = visit(server)
    address = f"{MLP}&new_techniques=tflite:dynamic_wi4"
    page = visitor.open(address)
    press_run(page)
    expect(page.get_by_text("1 of 1 done", exact=True)).to_be_visible(timeout=TRIAL_MS)
    (first,) = [run for run in store.runs() if run["technique"] == "dynamic_wi4"]
    page = visitor.open(address)
    expect(page.get_by_text("1 of 1 was measured before")).to_be_visible(timeout=SOON_MS)
    page.get_by_role("button", name="Show them").click()
    page.wait_for_url(lambda url: first["run_id"] in url)
    page = visitor.open(address)
    page.get_by_text("Measure anew").click()
    expect(page.get_by_role("button", name="Run", exact=True)).to_be_visible()
