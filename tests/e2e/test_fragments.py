"""What stands below a fragment stays there, however often the fragment and the whole page take turns."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.suite.app_server import running_app

pytestmark = pytest.mark.browser

LOOKS = 250
RESTLESS = """
import streamlit as st
from pages._ui.fragments import fragment

state = st.session_state
state.setdefault("drawn", 0)

def restless(shown):
    state.drawn += 1
    if state.drawn // 5 != shown:
        st.rerun()
    st.caption(f"drawn {state.drawn} times")

st.title("Restless")
fragment(restless, every=0.03)(state.drawn // 5)
for row in range(3):
    left, right = st.columns(2)
    left.markdown(f"row {row}")
"""


def test_a_fragment_that_is_always_at_work_leaves_the_rows_below_it(
    tmp_path: Path, visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Collecting garbage after every run keeps the page from being sent for just as long as it takes to see it go wrong.
    monkeypatch.setenv("STREAMLIT_RUNNER_POST_SCRIPT_GC", "true")
    script = tmp_path / "restless.py"
    script.write_text(RESTLESS, encoding="utf-8")
    with running_app(tmp_path / "home", script) as server:
        page = visit(server).page
        page.goto(server.url)
        page.wait_for_selector("text=row 2")
        seen = []
        for _ in range(LOOKS):
            seen.append(page.evaluate("document.querySelector('[data-testid=stMain]').innerText"))
            page.wait_for_timeout(20)
        page.goto("about:blank")
    assert len({text.split("drawn ")[1] for text in seen if "drawn " in text}) > 3, "it was not at work"
    assert all(f"row {row}" in text for text in seen for row in range(3))
