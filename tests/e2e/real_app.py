"""A visitor's view of the app."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Page

from benchmarks.suite.app_server import Server

TRACEBACK = "[data-testid='stException']"


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


def mapped_files(server: Server) -> str:
    """Every file mapped into the server's memory, shared libraries among them."""
    return Path(f"/proc/{server.process.pid}/maps").read_text()
