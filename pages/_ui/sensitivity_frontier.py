"""The frontier on the page: bits within a budget, which layers get how many, and a point turned into a real run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from math import ceil
from typing import Any

import streamlit as st

from experiments.frontier import Objective, frontier_at
from experiments.jobs.worker import ensure_worker
from experiments.library import Library
from experiments.spec import ExperimentSpec, Measurement, plan
from models import catalogue
from pages._ui import format as fmt
from pages._ui import sensitivity as words
from pages._ui import sensitivity_charts as drawn
from pages._ui.charts import show
from pages._ui.errors import show_error
from pages._ui.outcome import badge, result_words
from pages._ui.theme import palette
from quantizers.capabilities import BACKEND_TITLES, MIXED
from quantizers.errors import InputError
from quantizers.schema import Backend, Status, Technique

Document = Mapping[str, Any]
UNITS = {Objective.BYTES: (1e3, "KB"), Objective.BIT_OPERATIONS: (1e6, "million bit-operations")}
TITLES = {Objective.BYTES: "Size", Objective.BIT_OPERATIONS: "Bit-operations"}


def choose_objective() -> Objective:
    chosen = st.segmented_control(
        "What the budget limits",
        list(Objective),
        default=Objective.BYTES,
        required=True,
        format_func=lambda one: TITLES[Objective(one)],
        key="sens_objective",
        bind="query-params",
        help="Bytes of the stored model, or multiplications × bits of their weight for one sample.",
    )
    return Objective(chosen or Objective.BYTES)


def show_frontier(library: Library, document: Document) -> None:
    """The curve, the budget, the choice that fits it, and its run."""
    place = st.container()
    point = _within_budget(document)
    with place:
        show(
            drawn.frontier(document, palette(), point),
            title=words.frontier_finding(document),
            caption="Predicted: the sum of what each layer costs alone. Measured: all layers rounded together, on samples the "
            "choice was not made on.",
            alt="Cost against loss of mixed precision, predicted and measured, with uniform widths",
            key="sens_frontier",
        )
    st.markdown(words.point_words(document, point))
    show(
        drawn.bits_figure(point["bits"], palette()),
        title="Bits of each layer within this budget",
        alt="Bits of every layer of the choice, in execution order",
        key="sens_point_bits",
    )
    _run(library, document, point)


def _within_budget(document: Document) -> Document:
    """The choice of least predicted loss in the budget, with what was measured of it if it is a point of the curve."""
    objective = Objective(document["objective"])
    name = "bytes" if objective is Objective.BYTES else "bit_operations"
    unit, title = UNITS[objective]
    costs = [point[name] for point in document["points"]]
    low, high = ceil(10 * min(costs) / unit) / 10, ceil(10 * max(costs) / unit) / 10
    if low >= high:
        only: Document = document["points"][0]
        return only
    middle = ceil(10 * sorted(costs)[len(costs) // 2] / unit) / 10
    budget = st.slider(
        f"Budget, {title}",
        low,
        high,
        middle,
        step=0.1,
        format="%g",
        key=f"sens_budget_{document['model']}_{objective}",
        bind="query-params",
    )
    point = frontier_at(document, budget * unit)
    known: dict[str, Document] = {
        one["technique"]: one for part in ("at", "equal", "uniform", "points") for one in document[part]
    }
    return known.get(point.technique, asdict(point))


def _run(library: Library, document: Document, point: Document) -> None:
    """The runs there are of a choice, and the button that makes one."""
    technique, info = Technique.parse(point["technique"]), catalogue.info(document["model"])
    for run in library.store.runs(model=info.id):
        if run["technique"] == technique.code:
            _link(run)
    able = [backend for backend in MIXED if not catalogue.refusal(info, backend, technique) and MIXED[backend].available]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        backend = st.selectbox(
            "Backend", able, format_func=lambda one: BACKEND_TITLES[Backend(one)], key="sens_backend", width=200
        )
        pressed = st.button("Run this point", key="sens_run", type="primary", icon=":material/play_arrow:", disabled=not able)
    for one in Backend:
        if one not in able:
            cell = MIXED.get(one)
            refusal = catalogue.refusal(info, one, technique)
            why_not = refusal.message if refusal else cell.why_not if cell else "it has no mixed precision"
            st.caption(f":material/block: {BACKEND_TITLES[one]}: {why_not}")
    if pressed:
        _submit(library, ExperimentSpec(info.id, ((backend, technique.code),), Measurement(document["data"])))


def _submit(library: Library, spec: ExperimentSpec) -> None:
    try:
        experiment_id = library.store.submit(plan(spec))
    except InputError as error:
        show_error(error)
        return
    ensure_worker()
    st.switch_page("new_experiment.py", query_params={"new_experiment": experiment_id})


def _link(run: Mapping[str, Any]) -> None:
    status = Status(run["status"])
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"{fmt.backend_name(run['backend'])}: {badge(run).markdown()}", width="content")
        if status is Status.DONE:
            st.markdown(result_words(run), width="content")
            st.page_link("layers.py", label="Layers", icon=":material/layers:", query_params={"run": run["run_id"]})
        elif status.active:
            query = {"new_experiment": run["experiment_id"]}
            st.page_link("new_experiment.py", label="Follow it", icon=":material/autorenew:", query_params=query)
