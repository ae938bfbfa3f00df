"""Designed states for what went wrong or is not there yet: what, why, what to do."""

from __future__ import annotations

import errno
import traceback

import streamlit as st
from sqlalchemy.exc import OperationalError

from quantizers.errors import QuantScopeError, StoreError, StoreFull, StoreUnavailable

_FULL = ("disk is full", "no space left")
_READ_ONLY = ("readonly database", "read-only")


def show_error(error: QuantScopeError) -> None:
    """An error a person can cause, in its own words."""
    st.warning(error.hint or "Go back and choose something else.", title=error.message, icon=":material/error:")


def show_empty(sentence: str, page: str, label: str) -> None:
    """Nothing to show: one sentence and one action, a link to the page whose script is `page`."""
    with st.container(border=True, horizontal_alignment="center", gap="medium"):
        st.space("small")
        st.markdown(sentence, text_alignment="center", width="content")
        st.page_link(page, label=label, icon=":material/arrow_forward:")
        st.space("small")


def store_error(error: Exception) -> StoreError | None:
    """What keeps the store from being read or written, told as one of our errors; None for any other error."""
    if not isinstance(error, OSError | OperationalError):
        return None
    number, words = getattr(error, "errno", None), str(error).lower()
    if number in (errno.ENOSPC, errno.EDQUOT) or any(part in words for part in _FULL):
        return StoreFull("No room is left on the disk of the data directory.", "Free some; what is stored already is safe.")
    if number in (errno.EROFS, errno.EACCES, errno.EPERM) or any(part in words for part in _READ_ONLY):
        hint = "Make it writable, or name another with QUANTSCOPE_HOME. What is stored already is safe."
        return StoreUnavailable("The data directory cannot be written to.", hint)
    if isinstance(error, OperationalError):
        reason = str(error.orig).strip()
        return StoreUnavailable(f"The database does not answer: {reason}", "See that it is running, then reload the page.")
    return None


def show_script_error(error: Exception) -> bool:
    """Draws our card in place of a traceback; called by `st.App` for whatever a page did not catch."""
    known = error if isinstance(error, QuantScopeError) else store_error(error)
    if known is not None:
        show_error(known)
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
