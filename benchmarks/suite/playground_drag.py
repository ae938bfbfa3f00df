"""Does the playground answer while a mark is dragged? A browser drags one on a model of 109 million weights.

The server is the real one, started on a data directory that holds the model's sketches. Playwright, which the tests install,
moves the mouse as a hand does; the page itself notes when a value was moved to, when it was sent, and when a figure changed.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.suite.app_server import chromium, running_app
from benchmarks.suite.figure import Figure, Figures
from benchmarks.suite.weight_analysis import bert_base
from quantizers import sketch_file
from quantizers.sketch_build import build_sketches

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

MODEL, TITLE = "bert-base-shapes", "BERT-base shapes"
ADDRESS = f"/playground?play_model={MODEL}&play_tensor=embeddings.word&play_bits=4"
SECONDS = 2.0
DRAGS = 5
MOVES_PER_SECOND = 60
LEAST_UPDATES = 5
MOST_MS = 150.0
MARK = "[aria-label='Upper clip']"
_WATCH = """() => {
  window.updates = [];
  performance.clearMarks("drag-sent");
  const root = [...document.querySelectorAll(".st-key-play_figures *")].map((each) => each.shadowRoot).find(Boolean);
  const read = () => [...root.querySelectorAll("dd")].map((each) => each.textContent).join("|");
  let last = read();
  window.watcher = new MutationObserver(() => {
    const now = read();
    if (now !== last) window.updates.push(performance.now());
    last = now;
  });
  window.watcher.observe(root, { subtree: true, childList: true, characterData: true });
}"""
_SEEN = """() => ({
  updates: window.updates,
  sent: performance.getEntriesByName("drag-sent").map((each) => [each.detail.movedAt, each.startTime]),
})"""


@dataclass(frozen=True, slots=True)
class Drag:
    """One press, movement and release of the mouse: of each value answered meanwhile, how long its figures took."""

    milliseconds: tuple[float, ...]

    @property
    def updates(self) -> int:
        return len(self.milliseconds)


def run() -> Figures:
    """Updates and delays over a few drags.

    Raises:
        Unsupported: there is no browser to drive.
    """
    with tempfile.TemporaryDirectory(prefix="quantscope-bench-") as folder, chromium() as browser:
        keep_bert_base(Path(folder))
        drags = _drags(browser, Path(folder))
    delays = [each for one in drags for each in one.milliseconds]
    return {
        "drag_to_figure_p95": Figure(float(np.percentile(delays, 95)), "ms", MOST_MS),
        "drag_to_figure_p50": Figure(float(np.percentile(delays, 50)), "ms"),
        "fewest_updates_in_2_s": Figure(min(one.updates for one in drags), "updates", LEAST_UPDATES),
        "updates": Figure(len(delays), "updates"),
    }


def _drags(browser: Browser, home: Path) -> list[Drag]:
    with running_app(home) as server:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(server.url + ADDRESS)
        page.wait_for_selector(MARK, timeout=60_000)
        page.wait_for_timeout(3000)
        drag(page)  # the first one pays for what is loaded once
        return [drag(page) for _ in range(DRAGS)]


def keep_bert_base(home: Path) -> None:
    """Puts sketches of a model of BERT-base's shapes into a data directory; tensors of one shape share theirs."""
    folder = home / "sketches"
    folder.mkdir(parents=True, exist_ok=True)
    weights = bert_base()
    first = {weight.shape: name for name, weight in reversed(weights.items())}
    built = build_sketches({name: weights[name] for name in first.values()}, groups=())
    sketch_file.write(folder / f"{MODEL}.npz", {name: built[first[weight.shape]] for name, weight in weights.items()})
    (folder / f"{MODEL}.json").write_text(f'{{"title": "{TITLE}", "file": "{MODEL}.npz", "made_of": ""}}', encoding="utf-8")


def drag(page: Page, seconds: float = SECONDS) -> Drag:
    """Drags the upper mark inwards and back with the mouse held down, and reads what the page noted until the release."""
    box = page.locator(MARK).bounding_box()
    assert box is not None, "the mark is on the page"
    x, y = box["x"] + box["width"] / 2, box["y"] + 40
    page.mouse.move(x, y)
    page.mouse.down()
    page.evaluate(_WATCH)
    began = time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        page.mouse.move(x - 300 * np.sin(np.pi * passed / seconds), y)
        time.sleep(max(0.0, began + passed + 1 / MOVES_PER_SECOND - time.monotonic()))
    seen: dict[str, Any] = page.evaluate(_SEEN)
    page.mouse.move(x, y)
    page.mouse.up()
    page.wait_for_timeout(600)
    return Drag(tuple(_delays(seen["updates"], seen["sent"])))


def _delays(updates: list[float], sent: list[tuple[float, float]]) -> Iterator[float]:
    """From the movement of each value that was sent to the last figure that changed before the next one was.

    One value is under way at a time, and the page draws its figures before it says that it has answered.
    """
    for (moved_at, sent_at), (_, next_sent) in pairwise(sent):
        changes = [update for update in updates if sent_at < update <= next_sent]
        if changes:
            yield changes[-1] - moved_at
