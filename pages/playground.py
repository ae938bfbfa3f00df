"""Playground: one tensor, any grid; the address holds the tensor and every choice, and figures follow while marks move."""

from __future__ import annotations

import streamlit as st

from experiments import sketches
from experiments.library import Library
from experiments.store.store import RunDocument
from pages._ui import format as fmt
from pages._ui import playground_view as view
from pages._ui import url_state
from pages._ui.errors import show_error
from pages._ui.fragments import fragment
from quantizers.errors import QuantScopeError, TrialError, UnknownName
from quantizers.sketch_file import SketchFile

POLL = "0.5s"


def chosen_run() -> RunDocument | None:
    """The run whose choices the playground begins with, when the address names one."""
    run_id = st.query_params.get("play_run")
    return Library().run(run_id) if run_id else None


def choose_model(run: RunDocument | None) -> str:
    """The picker of models; returns the id the address names.

    Raises:
        UnknownName: there is no such model, or its weights are not here.
    """
    titles = sketches.titles()
    first = run["model"] if run else next(iter(titles))
    wanted = st.query_params.get("play_model", first)
    if wanted not in titles:
        raise UnknownName.of("model with weights to look at", wanted, titles)
    url_state.follow("play_model_choice", "play_model", list(titles), first)
    st.selectbox("Model", list(titles), key="play_model_choice", format_func=lambda name: titles[name], on_change=_choose_model)
    return wanted


def _choose_model() -> None:
    url_state.choose("play_model_choice", "play_model")
    for parameter in ("play_tensor", "play_run", "play_clip"):
        st.query_params.pop(parameter, None)


def choose_tensor(file: SketchFile) -> str:
    """The picker of tensors; returns the name the address has.

    Raises:
        UnknownName: the model has no such tensor.
    """
    sizes = file.sizes
    largest = max(sizes, key=lambda name: sizes[name])
    wanted = st.query_params.get("play_tensor", largest)
    if wanted not in sizes:
        raise UnknownName.of("tensor of this model", wanted, sizes)
    url_state.follow("play_tensor_choice", "play_tensor", list(sizes), largest)
    st.selectbox(
        "Weight tensor",
        list(sizes),
        key="play_tensor_choice",
        format_func=lambda name: f"{name} · {fmt.count(sizes[name])} values",
        on_change=_choose_tensor,
    )
    return wanted


def _choose_tensor() -> None:
    url_state.choose("play_tensor_choice", "play_tensor")
    st.query_params.pop("play_clip", None)


def wait(model_id: str) -> None:
    """Shows how far the sketches of a model are, and the page once they are there."""
    sketches.ensure(model_id)
    if sketches.find(model_id):
        st.rerun()
    now = sketches.progress(model_id)
    if now and now.error:
        show_error(TrialError(now.error, now.hint))
        if st.button("Try again", key="play_again", icon=":material/refresh:"):
            sketches.report(model_id, None)
    else:
        st.progress(
            now.fraction if now else 0.0, text=f"{now.stage if now else 'Starting'}: once for this model, then it is kept."
        )


st.title("Playground")
st.caption("What would happen to these weights on another grid? Drag the marks: figures follow, and no model is run.")
try:
    run = chosen_run()
    left, right = st.columns(2)
    with left:
        model_id = choose_model(run)
    file = sketches.find(model_id)
    if file is None:
        fragment(wait, every=POLL)(model_id)
    else:
        with right:
            name = choose_tensor(file)
        view.show(file, name, run)
except QuantScopeError as error:
    show_error(error)
