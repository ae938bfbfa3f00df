"""The real app on a free port, as benchmarks drive it from outside, and the Chromium they look at it with."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks._session import ROOT
from quantizers.errors import Unsupported

if TYPE_CHECKING:
    from playwright.sync_api import Browser

START_SECONDS = 60.0
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@contextmanager
def running_app(home: Path) -> Iterator[str]:
    """Starts the app on a data directory, waits until it is healthy, and yields its URL; ends it afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port), "--server.headless", "true"]
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"QUANTSCOPE_HOME": str(home)}, stdout=log, stderr=log)
    try:
        _wait(f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


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


def _wait(url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=1):  # noqa: S310 -- our own server
                return
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.1)
    raise TimeoutError("the server did not start")
