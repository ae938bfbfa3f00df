"""The playground by hand: a mark dragged with the mouse, figures that follow while it moves, a model read at first sight."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, Page, expect
from real_app import mapped_files

from benchmarks.suite.playground_drag import ADDRESS, LEAST_UPDATES, drag, keep_bert_base

pytestmark = pytest.mark.browser

HEAVY = ("libtorch", "_pywrap_tensorflow", "libtensorflow", "onnxruntime", "libllvmlite", "numba/")
UPPER, LOWER = "[aria-label='Upper clip']", "[aria-label='Lower clip']"


@pytest.fixture(scope="module")
def bert(server):
    """The server, with a model of 109 million weights."""
    keep_bert_base(server.home)
    return server


def figure(page: Page, name: str) -> str:
    return card(page, name).locator("dd").inner_text()


def card(page: Page, name: str) -> Locator:
    return page.locator(".st-key-play_figures dl > div").filter(has_text=name)


def test_figures_follow_while_a_mark_of_a_large_model_is_dragged(bert, visit) -> None:
    visitor = visit(bert)
    page = visitor.open(ADDRESS)
    expect(page.locator(UPPER)).to_be_visible()
    drag(page, 0.5)
    seen = max((drag(page) for _ in range(3)), key=lambda one: one.updates)
    assert seen.updates >= LEAST_UPDATES
    assert seen.milliseconds
    visitor.settle()
    assert "play_rule=by_hand" in page.url
    assert re.search(r"play_clip=[\d.]+(,|%2C)[\d.]+", page.url)


def test_what_was_dragged_is_in_the_address(bert, visit) -> None:
    visitor = visit(bert)
    page = visitor.open(ADDRESS)
    before = figure(page, "SQNR")
    page.locator(UPPER).focus()
    for _ in range(4):
        answered = page.url
        page.keyboard.press("Shift+ArrowLeft")
        page.wait_for_function("answered => location.href !== answered", arg=answered)
    expect(card(page, "SQNR")).not_to_contain_text(before)
    visitor.settle()
    after = figure(page, "SQNR")
    other = visit(bert).open(page.url.removeprefix(bert.url))
    assert figure(other, "SQNR") == after
    # A symmetric grid is clipped on both sides alike.
    sides = [float(other.locator(mark).get_attribute("aria-valuetext").replace("−", "-")) for mark in (LOWER, UPPER)]
    assert sides[0] == pytest.approx(-sides[1])


def test_a_zoo_model_is_read_once_by_a_process_of_its_own(server, visit) -> None:
    visitor = visit(server)
    page = visitor.open("/playground?play_model=mnist-cnn&play_tensor=conv1")
    expect(page.locator(UPPER)).to_be_visible(timeout=120_000)
    visitor.settle()
    page.get_by_role("button", name="Use it").click()
    page.wait_for_url(re.compile("play_rule=mse"))
    expect(page.get_by_text("No other clipping has a notably smaller error")).to_be_visible()
    maps = mapped_files(server)
    assert not [library for library in HEAVY if library in maps]


def test_the_bits_answer_to_the_keyboard(bert, visit) -> None:
    visitor = visit(bert)
    page = visitor.open(ADDRESS)
    before = figure(page, "Projected size")
    page.get_by_role("slider", name="Bits").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_url(re.compile("play_bits=5"))
    expect(card(page, "Projected size")).not_to_contain_text(before)
