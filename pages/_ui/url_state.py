"""What a person chose lives in the address, so that reload and sharing work.

Where the value a person sees is the value to keep, a widget uses Streamlit's own `bind="query-params"`; it writes labels. These
functions serve the rest: choices whose id is not their label, choices that a click on a chart can make too, lists of run ids.
"""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

SEPARATOR = ","


def read_list(parameter: str) -> list[str]:
    """The comma-separated values of a parameter, each once, in order."""
    text = st.query_params.get(parameter, "")
    return list(dict.fromkeys(part for part in text.split(SEPARATOR) if part))


def write_list(parameter: str, values: Sequence[str]) -> None:
    write(parameter, SEPARATOR.join(values))


def write(parameter: str, value: str | None) -> None:
    """Puts a value into the address; an empty one leaves it."""
    if value:
        st.query_params[parameter] = value
    else:
        st.query_params.pop(parameter, None)


def follow(key: str, parameter: str, options: Sequence[str], default: str) -> None:
    """Gives the widget `key`, not drawn yet, the value the address holds, or `default` when it is none of `options`."""
    wanted = st.query_params.get(parameter, default)
    st.session_state[key] = wanted if wanted in options else default


def choose(key: str, parameter: str) -> None:
    """Callback of that widget: the address takes the value it was given."""
    write(parameter, st.session_state[key])


def choose_clicked(chart_key: str, parameter: str) -> None:
    """Callback of a chart: the address takes the id that the clicked mark carries in `customdata`."""
    for point in st.session_state[chart_key].selection.points:
        carried = point.get("customdata")
        write(parameter, carried[0] if isinstance(carried, list) else carried)
