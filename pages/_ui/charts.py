"""What all charts share: the bare figure, and how one is shown with its title, its alternative text and nothing in the way.

Titles are page text above the figure and not part of it: they wrap on a narrow screen and can be read aloud. Every chart module
is pure: data in, figure out.
"""

from __future__ import annotations

from collections.abc import Callable

import plotly.graph_objects as go
import streamlit as st

from pages._ui.theme import Palette, template

CONFIG = {"displayModeBar": False, "scrollZoom": False, "showTips": False}


def bare(colours: Palette, height: int) -> go.Figure:
    """An empty figure in the look of `colours`, `height` pixels high."""
    return go.Figure(layout={"template": template(colours), "height": height})


def show(
    figure: go.Figure,
    *,
    title: str,
    alt: str,
    key: str,
    caption: str = "",
    meaning: str | None = None,
    on_select: Callable[[], None] | None = None,
) -> None:
    """Draws a figure under its title.

    Args:
        title: the finding, or the question the chart answers.
        meaning: one line on the terms in it, for whoever points at the title.
        alt: what a person who cannot see it should know.
        on_select: called when a mark is clicked; the selection is then in `st.session_state[key]`.
    """
    st.markdown(f"#### {title}", help=meaning)
    if caption:
        st.caption(caption)
    st.plotly_chart(
        figure, theme=None, config=CONFIG, alt=alt, key=key, on_select=on_select or "ignore", selection_mode="points"
    )
