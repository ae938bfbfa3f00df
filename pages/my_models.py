"""My models: drop a file, see what it is and what is in it, say what it takes, and use it in an experiment.

The address holds the model that is open (`model`). Files are looked into in limited processes of their own; this one reads
what they answered. The script is not called models.py, for Streamlit would then import it in place of the package `models`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import streamlit as st

from models import catalogue, mine
from models import entry as entries
from models.entry import Entry
from models.float_model import ModelInfo
from pages._ui import format as fmt
from pages._ui.errors import show_error
from pages._ui.inspection import show_contents
from pages._ui.matrix import Pair, presets, write
from pages._ui.preprocessing import choose_preprocessing, choose_shapes, free_ports, show_preview
from pages._ui.upload import drop_model, plain, show_task
from pages._ui.upload_data import show_data
from quantizers.capabilities import BACKEND_TITLES
from quantizers.errors import UnknownName
from quantizers.schema import Technique

IMAGE_AXES = 3


def models_tab() -> None:
    """The uploader, the picker, and the model that is open."""
    drop_model()
    show_task("models")
    undo()
    models = mine.catalogue()
    if not models:
        st.caption(
            "No model of your own yet. A file is looked into in a process with little memory and little time, without running "
            "code of its own unless you trust it, and stays on this machine."
        )
    chosen = pick(models)
    if chosen is None:
        return
    try:
        stored = mine.entry(chosen)
    except UnknownName as error:
        show_error(error)
        return
    show_model(stored, entries.info(stored))


def pick(models: Sequence[ModelInfo]) -> str | None:
    """The model that the address names, or the one added last; None where there is none."""
    names = {info.id: f"{info.title} · {info.kind} · {state(info)}" for info in models}
    chosen = st.query_params.get("model") or next(iter(names), None)
    if names:
        st.session_state["models_open"] = chosen if chosen in names else None
        st.selectbox(
            "Model",
            list(names),
            key="models_open",
            format_func=lambda model_id: names[model_id],
            on_change=lambda: st.query_params.update(model=st.session_state["models_open"]),
            placeholder="Choose one of your models",
            width=640,
        )
    return chosen


def state(info: ModelInfo) -> str:
    """What can be done with a model, in a few words."""
    if info.why_not:
        return "cannot be used yet"
    if info.quantized:
        return "quantized already"
    able = [BACKEND_TITLES[backend] for backend, why_not in info.backends.items() if why_not is None]
    return f"ready for {', '.join(able)}" if able else "cannot be quantized"


def show_model(stored: Entry, info: ModelInfo) -> None:
    """All there is to see of a model and to say about it."""
    st.subheader(plain(info.title))
    added = datetime.fromisoformat(stored.added).timestamp()
    trusted = " · trusted by you: it may run code of its own" if stored.trusted else ""
    facts = f"{stored.kind} · {fmt.size(stored.bytes)} · added {fmt.moment(added)} · SHA-256 {stored.digest[:12]}…{trusted}"
    st.caption(facts)
    actions(stored, info)
    refusals(stored, info)
    if free_ports(stored):
        st.markdown("#### Shape of its input")
        choose_shapes(stored)
    if info.available and is_image(info.input_shape):
        st.markdown("#### What it takes")
        choose_preprocessing(stored, info)
    if info.available and info.input_shape:
        show_preview(info)
    st.markdown("#### What is in it")
    show_contents(stored.inspection, stored.title, f"contents_{stored.id}")


def is_image(shape: Sequence[int]) -> bool:
    return len(shape) == IMAGE_AXES and shape[-1] in (1, 3, 4)


def refusals(stored: Entry, info: ModelInfo) -> None:
    """Why it cannot be used yet, or not be quantized."""
    if info.why_not:
        st.warning(plain(info.why_not), title="It cannot be used yet", icon=":material/error:")
    reasons = dict.fromkeys(reason for reason in stored.inspection.backends.values() if reason)
    if info.quantized and not reasons:
        reasons[f"{info.title} is quantized already. Bring the float model it was made from."] = None
    for reason in reasons:
        what = "It can be inspected and measured, not quantized again" if info.quantized else "It cannot be quantized"
        st.info(plain(reason), title=what, icon=":material/info:")


def actions(stored: Entry, info: ModelInfo) -> None:
    """Use, rename, remove."""
    pairs = quick_look(info)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.page_link(
            "new_experiment.py",
            label="Measure as it is" if info.quantized else "Use in a new experiment",
            icon=":material/add_circle:",
            disabled=not pairs,
            help=None if pairs else "No technique takes it as it is: the reason is below.",
            query_params={"new_model": info.id, "new_techniques": write(pairs)},
        )
        with st.popover("Rename", icon=":material/edit:"):
            key = f"models_title_{stored.id}"
            st.text_input("Name", stored.title, key=key, on_change=rename, args=(stored.id, key), max_chars=120)
        st.button("Remove", key="models_remove", icon=":material/delete:", on_click=remove, args=(stored.id, stored.title))


def quick_look(info: ModelInfo) -> list[Pair]:
    """Of the techniques to begin with, those that this model can be taken through; of a quantized file, the file itself."""
    if not info.available:
        return []
    every = presets()["Quick look"]
    return [(backend, code) for backend, code in every if not catalogue.refusal(info, backend, Technique.parse(code))]


def rename(model_id: str, key: str) -> None:
    title = st.session_state[key].strip()
    if title:
        mine.update(model_id, title=title)


def remove(model_id: str, title: str) -> None:
    mine.remove(model_id)
    st.session_state["models_removed"] = model_id, title
    st.query_params.pop("model", None)


def undo() -> None:
    """Offers to bring back the model that was removed last."""
    removed = st.session_state.get("models_removed")
    if removed is None:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"{plain(removed[1])} was removed.", width="content")
        st.button("Undo", key="models_undo", icon=":material/undo:", on_click=restore, args=(removed[0],))


def restore(model_id: str) -> None:
    del st.session_state["models_removed"]
    mine.restore(model_id)
    st.query_params["model"] = model_id


st.title("My models")
models, data = st.tabs(["Models", "Data"], key="my_tab", on_change="rerun", bind="query-params")
with models:
    models_tab()
with data:
    show_data()
