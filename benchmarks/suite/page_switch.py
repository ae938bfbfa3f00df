"""How long a person waits for the next page while a sweep runs and nine others watch it.

The others are sessions without a browser (`polling_clients`), which poll the page of the running experiment as nine open tabs
would; the one that is timed is Chromium. A switch begins with the click on the navigation and has ended when the page's
heading is there and its script has run to the end.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks._session import ROOT
from benchmarks.suite.app_server import chromium, running_app
from benchmarks.suite.figure import Figure, Figures

if TYPE_CHECKING:
    from playwright.sync_api import Page

CLIENTS = 9
SWITCHES = 60
PAGES = ("Runs", "Overview", "Layers", "New experiment", "Compare")
SWEEP = (
    "--model",
    "fashion-cnn",
    "--backend",
    "onnxruntime",
    "--backend",
    "tflite",
    "--backend",
    "pytorch",
    "--technique",
    "all",
)
PAUSE_SECONDS = 0.7
TARGET_SECONDS = 1.0
PATIENCE_SECONDS = 60.0
RAN = "[data-testid='stApp'][data-test-script-state='notRunning']"


def run() -> Figures:
    """The median and 95th percentile over all switches, and how busy the server was meanwhile.

    Raises:
        Unsupported: there is no browser to drive.
    """
    with (
        tempfile.TemporaryDirectory(prefix="quantscope-bench-") as folder,
        running_app(Path(folder)) as server,
        _sweep(Path(folder)) as experiment_id,
        _clients(server.url, f"new_experiment={experiment_id}") as clients,
        chromium() as browser,
    ):
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(1000 * PATIENCE_SECONDS)
        page.goto(server.url)
        for title in PAGES:  # the first visit pays for what is loaded once
            _switch(page, title)
        before, began = _fragments(clients), time.monotonic()
        waited = []
        for title in itertools.islice(itertools.cycle(PAGES), SWITCHES):
            waited.append(_switch(page, title))
            time.sleep(PAUSE_SECONDS)
        polled = (_fragments(clients) - before) / (time.monotonic() - began)
        still = page.locator(".st-key-tray").count()
    slowest = {title: max(waited[index :: len(PAGES)]) for index, title in enumerate(PAGES)}
    return {
        "switch_p50": Figure(float(np.percentile(waited, 50)), "s"),
        "switch_p95": Figure(float(np.percentile(waited, 95)), "s", TARGET_SECONDS),
        **{f"slowest_{title.lower().replace(' ', '_')}": Figure(seconds, "s") for title, seconds in slowest.items()},
        "switches": Figure(len(waited), "switches"),
        "fragments_polled": Figure(polled, "per second"),
        "sweep_still_running": Figure(still, "of 1"),
        "load_average": Figure(os.getloadavg()[0], "processes"),
    }


def _switch(page: Page, title: str) -> float:
    """Seconds from the click to the finished page."""
    began = time.perf_counter()
    page.get_by_test_id("stTopNavLink").filter(has_text=title).click()
    page.wait_for_function("title => document.title.startsWith(title)", arg=title)
    page.wait_for_selector("h1")
    page.wait_for_selector(RAN)
    return time.perf_counter() - began


@contextmanager
def _sweep(home: Path) -> Iterator[str]:
    """An experiment of every technique; yields its id once its trials run."""
    from experiments.store.store import Store
    from quantizers.schema import Status

    command = [sys.executable, "-m", "experiments", "run", *SWEEP, "--json"]
    environment = os.environ | {"QUANTSCOPE_HOME": str(home)}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (running := Store(home).runs(status=Status.RUNNING)):
            if time.monotonic() > deadline:
                raise TimeoutError("the sweep did not start")
            time.sleep(0.2)
        yield str(running[0]["experiment_id"])
    finally:
        process.send_signal(signal.SIGINT)  # which cancels what is left
        process.wait()
        _wait_until_idle(home)


def _wait_until_idle(home: Path) -> None:
    from experiments.store.store import Store

    deadline = time.monotonic() + PATIENCE_SECONDS
    while Store(home).beats() and time.monotonic() < deadline:
        time.sleep(0.5)


@contextmanager
def _clients(url: str, query: str) -> Iterator[Path]:
    """Nine visitors of the page "new"; yields the file that they tell their progress in."""
    command = [sys.executable, "-m", "benchmarks.suite.polling_clients", url, str(CLIENTS), "new", query]
    with tempfile.NamedTemporaryFile("w") as told:
        process = subprocess.Popen(command, cwd=ROOT, stdout=told)
        try:
            deadline = time.monotonic() + PATIENCE_SECONDS
            while _fragments(Path(told.name)) < CLIENTS:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise TimeoutError("the visitors do not poll")
                time.sleep(0.2)
            yield Path(told.name)
            if process.poll() is not None:
                raise RuntimeError("the visitors left before the end")
        finally:
            process.kill()
            process.wait()


def _fragments(told: Path) -> int:
    """How many fragments the visitors have asked for so far."""
    lines = told.read_text(encoding="utf-8").splitlines()
    return int(lines[-1]) if lines else 0
