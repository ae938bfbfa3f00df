"""Sensitivity: which layers cannot take few bits, and the best bits within a budget. The address holds every choice."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from experiments.analysis import Analyses
from experiments.library import Library
from pages._ui import reading
from pages._ui import sensitivity_view as view
from pages._ui.closed_loop_view import choose_and_change
from pages._ui.errors import show_error
from pages._ui.sensitivity import Request
from pages._ui.sensitivity_frontier import choose_objective, show_frontier
from quantizers.errors import QuantScopeError


def change_a_layer(library: Library, model: str, layer: str) -> None:
    """The closed loop on any finished run of the model."""
    runs = reading.finished(library, model=model)
    if runs:
        choose_and_change(library, runs, layer, "sens_change")
    else:
        query = {"new_model": model}
        st.page_link(
            "new_experiment.py",
            label="Quantize this model first, then change a layer",
            icon=":material/add_circle:",
            query_params=query,
        )


def analyse(library: Library, analyses: Analyses, request: Request) -> None:
    """Layers first; bits within a budget below them."""
    title = view.title_of(request.model)
    document = view.document_of(
        analyses, request.sensitivity, view.empty_words(title), f"Find what matters in {title}", "sens_layers"
    )
    if document is None:
        return
    layer = view.show_layers(analyses, request, document)
    change_a_layer(library, request.model, layer)
    st.subheader("Bits within a budget")
    wanted = replace(request, objective=choose_objective()).frontier
    sentence = "For each budget, the bits of each layer with which the model loses least; every point is then measured."
    frontier = view.document_of(analyses, wanted, sentence, "Find mixed precision", "sens_frontier")
    if frontier:
        show_frontier(library, frontier)


st.title("Sensitivity")
st.caption("Which layers cannot take few bits: each is rounded alone, and what that does to the model's output is its loss.")
analyses = Analyses()
try:
    analyse(Library(), analyses, view.ask(next((spec for spec in analyses.kept() if spec.frontier is None), None)))
except QuantScopeError as error:
    show_error(error)
