"""What can be done with runs of a listing: compare, inspect, tag, resume, delete and bring back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from experiments.jobs.worker import ensure_worker
from experiments.library import Library
from pages._ui.errors import show_error
from pages._ui.run_details import open_details
from quantizers.errors import QuantScopeError
from quantizers.schema import Status

MAX_COMPARED = 8
DELETED = "runs_deleted"
REFUSED = "runs_refused"
"""The error of a callback, which is shown by the run of the page that follows it."""
Row = Mapping[str, Any]


def show_actions(library: Library, selected: Sequence[Row], listed: int) -> None:
    """Buttons for the selected runs."""
    if error := st.session_state.pop(REFUSED, None):
        show_error(error)
    if not selected:
        st.caption(f"{listed} run{'s' if listed != 1 else ''}. Select rows to compare, inspect, tag or delete them.")
        return
    _compare(selected)
    if len(selected) == 1 and st.button("Details", key="runs_details", icon=":material/article:"):
        open_details(selected[0]["run_id"])
        st.rerun()
    interrupted = {run["experiment_id"] for run in selected if run["status"] == Status.INTERRUPTED.value}
    if interrupted and st.button("Resume", key="runs_resume", icon=":material/resume:", help="Runs what is missing again"):
        for experiment_id in interrupted:
            library.store.resume(experiment_id)
        ensure_worker()
        st.rerun()
    own = [run for run in selected if not run.get("example")]
    _tags(library, own)
    st.button(
        f"Delete {len(own)}",
        key="runs_delete",
        icon=":material/delete:",
        disabled=not own,
        help=None if own else "Bundled examples stay",
        on_click=_delete,
        args=(library, [run["run_id"] for run in own]),
    )


def _compare(selected: Sequence[Row]) -> None:
    done = [run["run_id"] for run in selected if run["status"] == Status.DONE.value]
    comparable = 2 <= len(done) <= MAX_COMPARED
    st.page_link(
        "compare.py",
        label=f"Compare {len(done)}",
        icon=":material/compare_arrows:",
        disabled=not comparable,
        help=None if comparable else f"Select 2 to {MAX_COMPARED} finished runs",
        query_params={"runs": ",".join(done)},
    )


def _tags(library: Library, own: Sequence[Row]) -> None:
    """Tags to give to the selected runs, or to take from them."""
    present = sorted({tag for run in own for tag in run["tags"]})
    with st.popover("Tag", icon=":material/label:", disabled=not own, help=None if own else "Bundled examples stay"):
        known = sorted(library.facets()["tag"])
        st.multiselect("Add tags", known, key="runs_tags_add", accept_new_options=True, placeholder="Choose, or type a new one")
        if present:
            st.multiselect("Remove tags", present, key="runs_tags_remove")
        ids = [run["run_id"] for run in own]
        label = f"Change {len(ids)} run{'s' if len(ids) != 1 else ''}"
        st.button(label, key="runs_tags_save", type="primary", on_click=_save_tags, args=(library, ids))


def _save_tags(library: Library, ids: Sequence[str]) -> None:
    added, removed = (st.session_state.pop(f"runs_tags_{what}", []) for what in ("add", "remove"))
    try:
        library.store.tag(ids, add=added, remove=removed)
    except QuantScopeError as error:
        st.session_state[REFUSED] = error


# ── deleting ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def deleted() -> list[str]:
    """The runs that this visitor deleted last, and can bring back."""
    ids: list[str] = st.session_state.get(DELETED, [])
    return ids


def show_undo(library: Library) -> None:
    """Offers to bring back what was deleted last."""
    ids = deleted()
    if not ids:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"{len(ids)} run{'s' if len(ids) > 1 else ''} deleted.", width="content")
        st.button("Undo", key="runs_undo", icon=":material/undo:", on_click=_restore, args=(library, ids))


def _delete(library: Library, ids: Sequence[str]) -> None:
    library.store.delete(ids)
    st.session_state[DELETED] = list(ids)


def _restore(library: Library, ids: Sequence[str]) -> None:
    library.store.restore(ids)
    del st.session_state[DELETED]
