"""The real app on a free port with a data directory of its own, and a visitor's view of it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from playwright.sync_api import Page

ROOT = Path(__file__).parents[2]
START_SECONDS = 60.0
TRACEBACK = "[data-testid='stException']"


@dataclass(frozen=True)
class Server:
    """A running app."""

    url: str
    home: Path
    process: psutil.Process

    def mapped_files(self) -> str:
        """Every file mapped into the server's memory, shared libraries among them."""
        return Path(f"/proc/{self.process.pid}/maps").read_text()


@dataclass
class Visitor:
    """A browser tab that remembers what went wrong in it."""

    page: Page
    server: Server
    complaints: list[str] = field(default_factory=list)

    def open(self, path: str) -> Page:
        """Visits a path of the app and waits until its script has run."""
        self.page.goto(self.server.url + path)
        self.settle()
        return self.page

    def settle(self) -> None:
        """Waits until the page's script has run to its end and the browser has fetched what it shows."""
        self.page.wait_for_selector("[data-testid='stApp'][data-test-script-state='notRunning']", timeout=30_000)
        self.page.wait_for_load_state("networkidle")

    def check(self) -> None:
        """No traceback on the page, no error in the console, nothing asked of another machine."""
        assert self.page.locator(TRACEBACK).count() == 0, self.page.locator(TRACEBACK).first.inner_text()
        assert self.page.get_by_text("This page could not be drawn").count() == 0, self.page.locator("pre").all_inner_texts()
        assert not self.complaints, self.complaints


@contextmanager
def running_app(home: Path) -> Iterator[Server]:
    """Starts the app on a free port, waits until it is healthy, and ends it with all it started."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home.mkdir(parents=True, exist_ok=True)
    with (home / "server.log").open("wb") as log:
        started = subprocess.Popen(
            [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port), "--server.headless", "true"],
            cwd=ROOT,
            env=os.environ | {"QUANTSCOPE_HOME": str(home)},
            stdout=log,
            stderr=log,
        )
    server = Server(f"http://127.0.0.1:{port}", home, psutil.Process(started.pid))
    try:
        _wait_until_healthy(server, started)
        yield server
    finally:
        _end(server.process)
        started.wait()


def _wait_until_healthy(server: Server, started: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert started.poll() is None, (server.home / "server.log").read_text()
        try:
            with urllib.request.urlopen(f"{server.url}/_stcore/health", timeout=1) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.1)
    raise AssertionError((server.home / "server.log").read_text())


def _end(process: psutil.Process) -> None:
    family = [*process.children(recursive=True), process]
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(family, timeout=5)
