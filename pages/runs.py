"""Runs: all that was run here, and the bundled examples: search, filter, tag, compare, inspect, delete with undo, resume.

The store filters, searches, sorts and pages, so that ten thousand runs are as quick as ten. The address holds all of it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import streamlit as st

from experiments.library import Library
from experiments.store.listing import Filters, Order, Row
from pages._ui import format as fmt
from pages._ui import run_actions
from pages._ui.errors import show_empty
from pages._ui.fragments import fragment
from pages._ui.outcome import BADGES
from pages._ui.run_details import show_details
from pages._ui.run_table import COLUMNS, table
from quantizers.schema import Backend, Status

POLL = "2s"
PAGE = "runs_page"
ROWS = 50
ROW_PIXELS = 35
MAX_ROWS_SHOWN = 16
# By the words of a choice: what is sorted by, and whether the largest come first.
ORDERS: Mapping[str, tuple[Order, bool]] = {
    "Newest first": (Order.CREATED, True),
    "Oldest first": (Order.CREATED, False),
    "Smallest": (Order.SIZE, False),
    "Largest gain in size": (Order.SIZE_RATIO, True),
    "Most accurate": (Order.TOP1, True),
    "Least accuracy lost": (Order.DROP, False),
    "Fastest": (Order.P50, False),
    "Largest speed-up": (Order.SPEEDUP, True),
    "By model": (Order.MODEL, False),
}
Facets = dict[str, Counter[str]]


def choose(facets: Facets) -> tuple[Filters, Order, bool]:
    """Draws what the listing is narrowed to and sorted by."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        search = st.text_input(
            "Search",
            key="runs_search",
            bind="query-params",
            on_change=_first_page,
            placeholder="Names, notes, tags, ids",
            width=240,
        )
        models = _filter("model", facets["model"], str)
        backends = _filter("backend", facets["backend"], fmt.backend_name)
        techniques = _filter("technique", facets["technique"], fmt.technique_name)
        statuses = _filter("status", facets["status"], lambda status: BADGES[Status(status)].word)
        tags = _filter("tag", facets["tag"], str) if facets["tag"] else []
        order = st.selectbox("Sorted by", list(ORDERS), key="runs_sort", bind="query-params", on_change=_first_page, width=200)
    filters = Filters([Status(one) for one in statuses], models, [Backend(one) for one in backends], techniques, tags, search)
    return filters, *ORDERS[order]


def _filter(name: str, counts: Counter[str], words: Callable[[str], str]) -> list[str]:
    return st.multiselect(
        name.capitalize(),
        sorted(counts),
        format_func=words,
        key=f"runs_{name}",
        bind="query-params",
        on_change=_first_page,
        placeholder="All",
        width=200,
    )


def listing(library: Library, filters: Filters, order: Order, descending: bool, polling: bool) -> None:
    """A page of the table and what can be done with its selected rows."""
    if polling and not _active(library.facets()):
        st.rerun()
    run_actions.show_undo(library)
    toolbar = st.container(horizontal=True, vertical_alignment="center")
    place = st.container()
    total = library.summaries(filters, limit=1).total
    if not total:
        st.caption("No run fits these filters.")
        return
    pages = math.ceil(total / ROWS)
    page = st.pagination(pages, key=PAGE, bind="query-params") if pages > 1 else 1
    found = library.summaries(filters, order, descending=descending, limit=ROWS, offset=(page - 1) * ROWS)
    with place:
        selected = _table(found.rows)
    with toolbar:
        run_actions.show_actions(library, selected, total)


def _table(rows: Sequence[Row]) -> list[Row]:
    """Draws rows and returns the selected ones."""
    # A selection is row numbers: a new listing gets a new table, so that they never point at other runs.
    key = f"runs_table_{hash(tuple(row['run_id'] for row in rows))}"
    event = st.dataframe(
        table(rows),
        key=key,
        height=ROW_PIXELS * (min(len(rows), MAX_ROWS_SHOWN) + 1) + 2,
        hide_index=True,
        column_config=dict(COLUMNS),
        on_select="rerun",
        selection_mode="multi-row",
        placeholder=fmt.MISSING,
        alt="Runs with their size, accuracy and latency",
    )
    return [rows[row] for row in event.selection.rows]


def _first_page() -> None:
    st.session_state[PAGE] = 1


def _active(facets: Facets) -> bool:
    return any(facets["status"][status.value] for status in Status if status.active)


def show(library: Library) -> None:
    """The whole page."""
    facets = library.facets()
    if not (facets["status"] or run_actions.deleted()):
        show_empty("Nothing has been run yet.", "new_experiment.py", "Set up the first experiment")
        return
    chosen = choose(facets)
    polling = _active(facets)
    fragment(listing, every=POLL if polling else None)(library, *chosen, polling)


st.title("Runs")
library = Library()
show(library)
show_details(library)
