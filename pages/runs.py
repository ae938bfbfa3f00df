"""Runs: everything that was run here, and the bundled examples; filter, compare, inspect, delete with undo, resume."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st

from experiments.jobs.worker import ensure_worker
from experiments.library import Library
from experiments.store.store import RunDocument
from pages._ui import format as fmt
from pages._ui.errors import show_empty
from pages._ui.outcome import BADGES
from pages._ui.run_details import open_details, show_details
from pages._ui.run_table import COLUMNS, table
from quantizers.schema import Status

POLL = "2s"
MAX_COMPARED = 8
ROW_PIXELS = 35
MAX_ROWS_SHOWN = 16


def every_run(library: Library) -> list[RunDocument]:
    return [*library.store.runs(), *library.examples()]


def active(runs: Sequence[RunDocument]) -> bool:
    return any(Status(run["status"]).active for run in runs)


def filters(runs: Sequence[RunDocument]) -> dict[str, list[str]]:
    """What the listing is narrowed to: for each property of a run the values that are wanted, none meaning all."""
    words: dict[str, Callable[[str], str]] = {
        "model": str,
        "backend": fmt.backend_name,
        "technique": fmt.technique_name,
        "status": lambda status: BADGES[Status(status)].word,
    }
    with st.container(horizontal=True):
        return {
            name: st.multiselect(
                name.capitalize(),
                sorted({run[name] for run in runs}),
                format_func=words[name],
                key=f"runs_{name}",
                bind="query-params",
                placeholder="All",
                width=240,
            )
            for name in words
        }


def listing(library: Library, wanted: dict[str, list[str]], polling: bool) -> None:
    """The table and what can be done with the selected rows."""
    everything = every_run(library)
    if polling and not active(everything):
        st.rerun()
    if polling:
        ensure_worker()
    runs = [run for run in everything if all(not values or run[name] in values for name, values in wanted.items())]
    undo(library)
    toolbar = st.container(horizontal=True, vertical_alignment="center")
    if not runs:
        st.caption("No run fits these filters.")
        return
    # A selection is row numbers: a new listing gets a new table, so that they never point at other runs.
    key = f"runs_table_{hash(tuple(run['run_id'] for run in runs))}"
    event = st.dataframe(
        table(runs),
        key=key,
        height=ROW_PIXELS * (min(len(runs), MAX_ROWS_SHOWN) + 1) + 2,
        hide_index=True,
        column_config=dict(COLUMNS),
        on_select="rerun",
        selection_mode="multi-row",
        placeholder=fmt.MISSING,
        alt="Runs with their size, accuracy and latency",
    )
    with toolbar:
        actions(library, [runs[row] for row in event.selection.rows], len(runs))


def actions(library: Library, selected: Sequence[RunDocument], listed: int) -> None:
    """Buttons for the selected runs."""
    if not selected:
        st.caption(f"{listed} run{'s' if listed != 1 else ''}. Select rows to compare, inspect or delete them.")
        return
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
    if len(selected) == 1 and st.button("Details", key="runs_details", icon=":material/article:"):
        open_details(selected[0]["run_id"])
        st.rerun()
    interrupted = {run["experiment_id"] for run in selected if run["status"] == Status.INTERRUPTED.value}
    if interrupted and st.button("Resume", key="runs_resume", icon=":material/resume:", help="Runs what is missing again"):
        for experiment_id in interrupted:
            library.store.resume(experiment_id)
        st.rerun()
    own = [run["run_id"] for run in selected if not run.get("example")]
    st.button(
        f"Delete {len(own)}",
        key="runs_delete",
        icon=":material/delete:",
        disabled=not own,
        help=None if own else "Bundled examples stay",
        on_click=delete,
        args=(library, own),
    )


def delete(library: Library, ids: Sequence[str]) -> None:
    library.store.delete(ids)
    st.session_state["runs_deleted"] = list(ids)


def undo(library: Library) -> None:
    """Offers to bring back what was deleted last."""
    deleted = st.session_state.get("runs_deleted")
    if not deleted:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"{len(deleted)} run{'s' if len(deleted) > 1 else ''} deleted.", width="content")
        st.button("Undo", key="runs_undo", icon=":material/undo:", on_click=restore, args=(library, deleted))


def restore(library: Library, ids: Sequence[str]) -> None:
    library.store.restore(ids)
    del st.session_state["runs_deleted"]


st.title("Runs")
library = Library()
runs = every_run(library)
if runs or st.session_state.get("runs_deleted"):
    wanted = filters(runs)
    st.fragment(listing, run_every=POLL if active(runs) else None)(library, wanted, active(runs))
else:
    show_empty("Nothing has been run yet.", "new_experiment.py", "Set up the first experiment")
show_details(library)
