"""Designed states for what went wrong or is not there yet: what, why, what to do."""

from __future__ import annotations

import traceback

import streamlit as st

from quantizers.errors import QuantScopeError


def show_error(error: QuantScopeError) -> None:
    """An error a person can cause, in its own words."""
    st.warning(error.hint or "Go back and choose something else.", title=error.message, icon=":material/error:")


def show_empty(sentence: str, page: str, label: str, *, icon: str = ":material/arrow_forward:") -> None:
    """Nothing to show: one sentence and one action, a link to the page whose script is `page`."""
    with st.container(border=True, horizontal_alignment="center", gap="medium"):
        st.space("small")
        st.markdown(sentence, text_alignment="center", width="content")
        st.page_link(page, label=label, icon=icon)
        st.space("small")


def show_script_error(error: Exception) -> bool:
    """Draws our card in place of a traceback; called by `st.App` for whatever a page did not catch."""
    if isinstance(error, QuantScopeError):
        show_error(error)
        return True
    st.error(
        "Your runs are safe: they are kept in the store and work goes on in its own process. Reload the page; if this comes "
        "back, copy the details below into a bug report.",
        title="This page could not be drawn",
        icon=":material/error:",
    )
    with st.expander("Details for a bug report"):
        st.code("".join(traceback.format_exception(error)), language=None, wrap_lines=True)
    return True
