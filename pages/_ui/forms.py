"""The upper half of the new-experiment form: a card a model, and the data. The address holds the choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from models import datasets
from models.float_model import ModelInfo
from models.samples import Dataset, Split
from pages._ui import format as fmt


def choose_model(models: Sequence[ModelInfo], chosen: str) -> None:
    """A card a model; pressing one writes it into the address. Those of no use here are drawn once they are unfolded."""
    _cards([info for info in models if info.available], chosen)
    others = [info for info in models if not info.available]
    if others:
        label = f"{len(others)} more, and what each of them needs"
        with st.expander(label, key="new_others", on_change="rerun") as unfolded:
            _cards(others if unfolded.open else (), chosen)


def _cards(models: Sequence[ModelInfo], chosen: str) -> None:
    with st.grid("auto", min_column_width=210):
        for info in models:
            with st.container(border=True, height="stretch"):
                _model_card(info, info.id == chosen)


def _model_card(info: ModelInfo, chosen: bool) -> None:
    st.markdown(f"**{info.title}**", help=info.summary)
    size = " × ".join(map(str, info.input_shape))
    takes = f"Input {size}" if size else "No input: nothing runs them"
    lines = [info.task.capitalize(), f"{fmt.count(info.parameters)} parameters", takes, _accuracy(info)]
    st.caption("  \n".join(lines))
    st.space("stretch")
    st.button(
        "Chosen" if chosen else "Choose",
        key=f"new_model_{info.id}",
        type="primary" if chosen else "secondary",
        icon=":material/check:" if chosen else None,
        disabled=not info.available,
        help=info.why_not,
        width="stretch",
        on_click=_choose_model,
        args=(info.id,),
    )
    if info.why_not:
        st.caption(info.why_not)


def _accuracy(info: ModelInfo) -> str:
    if not info.classifies:
        return "No classes to agree on: output SQNR and cosine only"
    if info.accuracy is None:
        return "No labelled data at hand: error and agreement only"
    titles = {data.id: data.title for data in datasets.catalogue()}
    stated = info.accuracy
    return f"{fmt.percent(stated.top1)} top-1 on {titles[stated.dataset]} (n = {fmt.count(stated.n)})"


def _choose_model(model_id: str) -> None:
    st.query_params["new_model"] = model_id
    st.query_params.pop("new_data", None)


def choose_data(info: ModelInfo, known: Mapping[str, Dataset], chosen: str) -> None:
    """What calibrates and what evaluates; a dataset's id, or the path of a person's own file."""
    options = list(dict.fromkeys((*info.datasets, chosen)))
    st.session_state["new_data_choice"] = chosen
    st.selectbox(
        "Dataset",
        options,
        key="new_data_choice",
        format_func=lambda data: known[data].title if data in known else data,
        accept_new_options=True,
        on_change=_choose_data,
        help="Or type the path of an .npz file of your own, with x (samples) and, where there are labels, y.",
        width=420,
    )
    if chosen in known:
        _describe(known[chosen])


def _choose_data() -> None:
    st.query_params["new_data"] = st.session_state["new_data_choice"]


def _describe(data: Dataset) -> None:
    if not data.splits:
        st.caption(data.summary)
        return
    calibration, test = data.splits[Split.CALIBRATION], data.splits[Split.TEST]
    labels = "with labels" if data.labels else "without labels, so no accuracy"
    there = f"{fmt.count(calibration)} samples to calibrate with and {fmt.count(test)} others to evaluate on, {labels}"
    st.caption(f"{data.summary} It has {there}. Licence: {data.licence}.")
