"""Servers, and Chromium to look at them with.

After every test its tabs are checked: no traceback, no error in the console, no request to another machine.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Request
from real_app import Visitor

from benchmarks.suite.app_server import Server, chromium, running_app
from quantizers.errors import Unsupported

BASE_PATH_PROBES = ("/_stcore/health", "/_stcore/host-config")
"""On a deep link Streamlit's page looks for the server below the link first, and gets a 404 there."""


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with ExitStack() as stack:
        try:
            started = stack.enter_context(chromium())
        except Unsupported as error:
            if os.environ.get("CI") == "true":
                pytest.fail(error.hint)
            pytest.skip(error.hint)
        yield started


@pytest.fixture
def fresh_server(tmp_path: Path) -> Iterator[Server]:
    """A server that nobody has visited."""
    with running_app(tmp_path / "home") as server:
        yield server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server shared by the tests of one file."""
    with running_app(tmp_path_factory.mktemp("home")) as server:
        yield server


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[[Server], Visitor]]:
    """Opens a tab on a server; after the test, every tab must be free of tracebacks and console errors."""
    visitors: list[Visitor] = []

    def new(server: Server) -> Visitor:
        page = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True).new_page()
        visitor = Visitor(page, server)
        page.on("console", lambda message: _note(visitor, message))
        page.on("request", lambda request: _note_request(visitor, request))
        page.on("pageerror", lambda error: visitor.complaints.append(str(error)))
        visitors.append(visitor)
        return visitor

    yield new
    for visitor in visitors:
        visitor.check()
        visitor.page.context.close()


def _note(visitor: Visitor, message: ConsoleMessage) -> None:
    address = message.location.get("url", "")
    if message.type == "error" and not address.endswith(BASE_PATH_PROBES):
        visitor.complaints.append(f"{message.text} ({address})")


def _note_request(visitor: Visitor, request: Request) -> None:
    if not request.url.startswith((visitor.server.url, "data:", "blob:")):
        visitor.complaints.append(f"asked another machine for {request.url}")
