"""Whoever opens the app for the first time, by whatever link, sees a whole page; and the server stays light."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import expect
from real_app import mapped_files

from experiments.library import EXAMPLES

pytestmark = pytest.mark.browser

PAGES = {
    "/": "Overview",
    "/new?new_model=mnist-mlp": "New experiment",
    "/compare": "Compare",
    "/layers": "Layers",
    "/playground": "Playground",
    "/sensitivity": "Sensitivity",
    "/my": "My models",
    "/runs": "Runs",
}
HEAVY = ("libtorch", "_pywrap_tensorflow", "libtensorflow", "onnxruntime", "_pywrap_litert", "libLiteRt")


def example_ids() -> list[str]:
    return sorted(f"example-{path.parent.name}" for path in EXAMPLES.glob("*/run.json"))


@pytest.mark.parametrize("path", PAGES)
def test_a_deep_link_is_the_first_visit_to_a_fresh_server(path: str, fresh_server, visit) -> None:
    visitor = visit(fresh_server)
    page = visitor.open(path)
    expect(page.get_by_role("link", name=PAGES[path], exact=True)).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_be_visible()


def test_the_overview_shows_a_chart_without_a_click(fresh_server, visit) -> None:
    page = visit(fresh_server).open("/")
    expect(page.locator(".js-plotly-plot").first).to_be_visible()


def test_deep_links_restore_what_they_name(server, visit) -> None:
    visitor = visit(server)
    first, second = example_ids()[:2]
    run = json.loads((EXAMPLES / first.removeprefix("example-") / "run.json").read_text(encoding="utf-8"))
    layer = run["layers"][-1]["name"]
    page = visitor.open(f"/layers?run={first}&layer={layer}")
    expect(page.get_by_role("heading", name=layer)).to_be_visible()
    expect(page.locator(".js-plotly-plot").first).to_be_visible()
    page = visitor.open(f"/compare?runs={first},{second}")
    expect(page.locator(".js-plotly-plot").first).to_be_visible()
    page = visitor.open(f"/runs?runs_open={first}&runs_model={run['model']}")
    expect(page.get_by_role("dialog")).to_contain_text(run["provenance"]["cpu"])


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/layers?run=nobody", "There is no run “nobody”."),
        ("/compare?runs=nobody", "nobody"),
        ("/runs?runs_open=nobody", "There is no run “nobody”."),
        ("/new?new_model=nobody", "There is no model called “nobody”."),
        ("/new?new_experiment=nobody", "There is no experiment “nobody”."),
    ],
)
def test_an_unknown_name_in_the_address_gets_a_designed_message(path: str, words: str, server, visit) -> None:
    page = visit(server).open(path)
    expect(page.get_by_text(words).first).to_be_visible()


def test_the_server_never_loads_a_framework(server, visit) -> None:
    visitor = visit(server)
    for path in (*PAGES, "/new?new_model=efficientnet-lite0", *(f"/layers?run={run_id}" for run_id in example_ids()[:1])):
        visitor.open(path)
    maps = mapped_files(server)
    assert "numpy" in maps, "the check reads the memory of the right process"
    assert not [library for library in HEAVY if library in maps]
