"""The real app on a free port, as benchmarks drive it from outside, and the Chromium they look at it with."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from benchmarks._session import ROOT
from quantizers.errors import Unsupported

if TYPE_CHECKING:
    from playwright.sync_api import Browser

START_SECONDS = 60.0
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@dataclass(frozen=True)
class Server:
    """The running app, on a data directory."""

    url: str
    home: Path
    process: psutil.Process


@contextmanager
def running_app(home: Path, script: Path = ROOT / "app.py") -> Iterator[Server]:
    """Starts the app, or another one, on a free port, waits until it is healthy, and ends it with all it started.

    Raises:
        RuntimeError: it does not start; the message holds its log.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "streamlit", "run", str(script), "--server.port", str(port), "--server.headless", "true"]
    with (home / "server.log").open("wb") as log:
        started = psutil.Popen(command, cwd=ROOT, env=os.environ | {"QUANTSCOPE_HOME": str(home)}, stdout=log, stderr=log)
    server = Server(f"http://127.0.0.1:{port}", home, started)
    try:
        _wait_until_healthy(server)
        yield server
    finally:
        _end(started)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser.

    Raises:
        Unsupported: there is none to drive.
    """
    executable = shutil.which("chromium")
    if executable is None:
        raise Unsupported("Pages are timed in Chromium, which is not here.", "apt-get install chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise Unsupported("Pages are timed through Playwright, which is not here.", "Run “make test” once.") from error
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        browser.close()


def _wait_until_healthy(server: Server) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.process.is_running():
        try:
            with urllib.request.urlopen(f"{server.url}/_stcore/health", timeout=1):  # noqa: S310 -- our own server
                return
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.1)
    raise RuntimeError((server.home / "server.log").read_text(encoding="utf-8"))


def _end(process: psutil.Popen) -> None:
    family = process.children(recursive=True) if process.is_running() else []
    for member in (*family, process):
        with suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait()
    psutil.wait_procs(family, timeout=5)
