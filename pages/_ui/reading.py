"""Reading runs for pages. Finished runs never change, so what is large about them is kept by id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st
from numpy.typing import NDArray

from experiments.library import Library
from experiments.store.store import RunDocument
from quantizers.errors import UnknownName
from quantizers.schema import Status


def library() -> Library:
    return Library()


def finished(source: Library) -> list[RunDocument]:
    """Every finished run, newest first, then the examples."""
    return [*source.store.runs(status=Status.DONE), *source.examples()]


@st.cache_resource(max_entries=64, show_spinner=False)
def with_layers(run_id: str) -> RunDocument:
    """A finished run with its layers. Shared: read only."""
    return library().run(run_id)


@st.cache_resource(max_entries=16, show_spinner=False)
def arrays(run_id: str) -> Mapping[str, NDArray[Any]]:
    """Histograms and per-channel figures of a finished run; nothing when it kept none. Shared: read only."""
    try:
        return library().details(run_id)
    except (UnknownName, FileNotFoundError):
        return {}


def all_with_layers(runs: Sequence[Mapping[str, Any]]) -> list[RunDocument]:
    return [with_layers(run["run_id"]) for run in runs]
