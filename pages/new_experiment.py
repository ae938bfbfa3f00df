"""New experiment: choose a model, data and techniques on one page, press Run, and watch the results arrive in place.

The address holds every choice and, once Run was pressed, the experiment (`new_experiment`), so a reload changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import streamlit as st

from experiments.jobs.eta import Durations
from experiments.jobs.worker import ensure_worker
from experiments.library import Library
from experiments.spec import ExperimentSpec, Plan, plan
from models import catalogue, datasets
from models.float_model import ModelInfo
from pages._ui import estimates, url_state
from pages._ui import format as fmt
from pages._ui.errors import show_error
from pages._ui.forms import choose_data, choose_model
from pages._ui.matrix import matrix
from pages._ui.options import choose_options
from pages._ui.outcome import conditions_words
from pages._ui.preprocessing_preview import show_samples
from pages._ui.progress import MAX_COMPARED, REUSED, show_experiment
from pages._ui.reuse import offer_reuse
from quantizers.capabilities import BACKEND_TITLES
from quantizers.errors import InputError, UnknownName


def set_up(library: Library) -> None:
    """The form, from top to bottom."""
    st.title("New experiment")
    st.subheader("Model")
    info = _model()
    if info is None:
        return
    st.subheader("Data")
    known = {data.id: data for data in datasets.catalogue()}
    data = st.query_params.get("new_data", info.datasets[0])
    choose_data(info, known, data)
    strip = st.container()
    st.subheader("Techniques")
    try:
        pairs = matrix(info)
        choices = choose_options(info.id, data, known.get(data), pairs)
        with strip, st.skeleton(height=120):
            show_samples(info, data, choices.measurement.seed)
        planned = plan(ExperimentSpec(info.id, tuple(pairs), choices.measurement, choices.options, choices.keep_float))
    except InputError as error:
        show_error(error)
        return
    _run(library, planned, choices.priority)


def _model() -> ModelInfo | None:
    """The cards; returns the chosen model, or None when the address names one that cannot be used."""
    models = catalogue.catalogue()
    usable = [info for info in models if info.available]
    chosen = st.query_params.get("new_model", usable[0].id if usable else "")
    choose_model(models, chosen)
    found = next((info for info in models if info.id == chosen), None)
    if found is None:
        show_error(UnknownName.of("model", chosen, [info.id for info in models]))
    elif found.why_not:
        st.warning(found.why_not, title=f"{found.title} cannot be used here", icon=":material/error:")
    return found if found and found.available else None


def _run(library: Library, planned: Plan, priority: int) -> None:
    """What will happen and roughly how long it takes, and the button that starts it."""
    for one in planned.impossible:
        st.caption(f":material/block: {BACKEND_TITLES[one.backend]} {fmt.technique_name(one.technique)}: {one.error.message}")
    missing, reused = offer_reuse(library.store, planned)
    count = len(missing.trials)
    with st.container(horizontal=True, vertical_alignment="center"):
        label, icon = ("Run", ":material/play_arrow:") if count else ("Show them", ":material/arrow_forward:")
        pressed = st.button(label, key="new_run", type="primary", icon=icon)
        what = (
            f"**{count} trial{'s' if count > 1 else ''}**, {_how_long(library, missing)}" if count else "Nothing is left to run"
        )
        st.markdown(what, width="content")
    st.caption(f"Each trial: {conditions_words(asdict(planned.trials[0].measurement))}.")
    if pressed and not count:
        show_reused(reused)
    if pressed:
        url_state.write_list(REUSED, reused)
        st.query_params["new_experiment"] = library.store.submit(missing, priority=priority)
        ensure_worker()
        st.rerun()


def show_reused(ids: Sequence[str]) -> None:
    """The results that make a run unnecessary."""
    if len(ids) == 1:
        st.switch_page("layers.py", query_params={"run": ids[0]})
    st.switch_page("compare.py", query_params={"runs": ",".join(ids[:MAX_COMPARED])})


def _how_long(library: Library, planned: Plan) -> str:
    model = planned.trials[0].model
    own = estimates.total(Durations(library.store.seconds_taken(model)), planned.trials)
    if own is not None:
        return f"about {fmt.seconds(own)} on this machine"
    elsewhere = estimates.total(Durations(estimates.taken(library.examples(), model)), planned.trials)
    if elsewhere is not None:
        return f"about {fmt.seconds(elsewhere)}, going by the bundled examples"
    return "no estimate yet: nothing like it has run here"


library = Library()
if experiment_id := st.query_params.get("new_experiment"):
    show_experiment(library, experiment_id)
else:
    set_up(library)
