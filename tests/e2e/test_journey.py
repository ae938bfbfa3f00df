"""The main job in a browser, with real backends: choose, run, watch, compare, inspect, take away; and a crash on the way."""

from __future__ import annotations

import csv
import os
import re
import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import expect

from experiments.store.store import Store
from quantizers.schema import Status

pytestmark = [pytest.mark.browser, pytest.mark.adapter]

TECHNIQUES = ("float32", "dynamic_wi8", "static_wi8_ai8")
SIX = [f"{backend}_{code}" for backend in ("pytorch", "tflite") for code in TECHNIQUES]


def quickest(evaluation: int) -> str:
    """The choices of quick trials, with a number of samples of a test's own: identical trials would be taken and not run."""
    return f"new_model=mnist-mlp&new_calibration=20&new_evaluation={evaluation}&new_latency=none"


TRIAL_SECONDS = 150
MAIN = "stMainBlockContainer"
"""The page itself, without the tray of jobs below it."""
ALL_SECONDS = 400


def test_six_trials_from_the_page_to_a_file_on_disk(server, visit, tmp_path: Path) -> None:
    visitor = visit(server)
    page = visitor.open(f"/new?{quickest(100)}&new_techniques=")
    for number, cell in enumerate(SIX, start=1):
        page.locator(f".st-key-new_cell_{cell} label").click()
        expect(page.get_by_text(f"{number} trial")).to_be_visible()
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_role("heading", name="Experiment on mnist-mlp")).to_be_visible()
    expect(page.get_by_role("progressbar").first).to_be_visible()
    expect(page.get_by_text(re.compile("^[1-6] of 6 done")).first).to_be_visible(timeout=1000 * TRIAL_SECONDS)
    page.reload()
    expect(page.get_by_test_id(MAIN).get_by_text("6 of 6 done", exact=True)).to_be_visible(timeout=1000 * ALL_SECONDS)
    assert page.get_by_text("Failed").count() == 0

    page.get_by_role("link", name="Compare these").click()
    expect(page.get_by_role("heading", name="Compare", exact=True)).to_be_visible()
    expect(page.locator(".js-plotly-plot").first).to_be_visible()
    visitor.settle()
    address = page.url
    assert address.count("%2C") + address.count(",") == 5, address
    for backend in ("PyTorch", "TFLite"):
        assert page.get_by_text(f"{backend} · Full int8").count() > 0
    page.reload()
    expect(page.locator(".js-plotly-plot").first).to_be_visible()
    assert page.url == address

    run_id = address.replace("%2C", ",").split("runs=")[1].split("&")[0].split(",")[-1]
    page = visitor.open(f"/layers?run={run_id}&layer=dense1")
    expect(page.get_by_role("heading", name="dense1")).to_be_visible()
    expect(page.locator(".js-plotly-plot")).to_have_count(5)
    artefact = download(page, "Artefact", tmp_path)
    assert artefact.read_bytes()[4:8] == b"TFL3"
    with download(page, "Scales and zero points", tmp_path).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["layer"] for row in rows} == {"dense1", "dense2"}
    assert all(float(row["scale"]) > 0 for row in rows if row["tensor"] == "weight")
    page.reload()
    expect(page.get_by_role("heading", name="dense1")).to_be_visible()


def download(page, label: str, folder: Path) -> Path:
    """Presses a download button and keeps what it gives."""
    with page.expect_download() as given:
        page.get_by_role("button", name=label).click()
    path = folder / given.value.suggested_filename
    given.value.save_as(path)
    return path


def test_a_killed_trial_is_shown_as_failed_and_the_next_one_runs(server, visit) -> None:
    visitor = visit(server)
    page = visitor.open(f"/new?{quickest(101)}&new_techniques=tflite:dynamic_wi8,tflite:float32")
    page.get_by_role("button", name="Run", exact=True).click()
    os.kill(running_child(server).pid, signal.SIGKILL)
    expect(page.get_by_text(re.compile("Failed")).first).to_be_visible(timeout=30_000)
    expect(page.get_by_text("killed by signal 9 (SIGKILL)").first).to_be_visible()
    expect(page.get_by_test_id(MAIN).get_by_text("1 of 2 done, 1 failed", exact=True)).to_be_visible(
        timeout=1000 * TRIAL_SECONDS
    )
    page.get_by_role("link", name="Details").click()
    expect(page.get_by_role("dialog")).to_contain_text("killed by signal 9")
    assert server.process.is_running()


def running_child(server) -> psutil.Process:
    """The process of a trial that runs in a server's data directory; one that has just finished may still be leaving."""
    store = Store(server.home)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        running = {run["run_id"] for run in store.runs(status=Status.RUNNING)}
        for process in psutil.process_iter(["cmdline"]):
            if not running.intersection(process.info["cmdline"] or ()):
                continue
            # What a trial forks looks like the trial itself at first, but leads no session.
            with suppress(ProcessLookupError):
                if os.getsid(process.pid) == process.pid:
                    return process
        time.sleep(0.1)
    raise AssertionError("no trial started within a minute")


def test_cancelling_ends_a_running_trial(server, visit) -> None:
    visitor = visit(server)
    page = visitor.open(f"/new?{quickest(102)}&new_techniques=tflite:static_wi8_ai8,tflite:float16")
    page.get_by_role("button", name="Run", exact=True).click()
    child = running_child(server)
    page.get_by_test_id(MAIN).get_by_role("button", name="Cancel all").click()
    expect(page.get_by_test_id(MAIN).get_by_text("0 of 2 done, 2 cancelled", exact=True)).to_be_visible(timeout=30_000)
    expect(page.get_by_test_id(MAIN).get_by_text(re.compile("Cancelled"))).to_have_count(2)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
