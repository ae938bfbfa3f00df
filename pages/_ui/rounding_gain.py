"""What better rounding gained: a run that improves on plain rounding, against the stored run that does all else alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from experiments.library import Library
from experiments.store.store import RunDocument
from pages._ui import format as fmt
from pages._ui.address import address_of
from pages._ui.comparison import against
from quantizers.capabilities import capability
from quantizers.schema import Backend, OptionValue, Status, Technique

IMPROVEMENTS: Mapping[str, Sequence[OptionValue]] = {
    "equalize": (True,),
    "rounding": ("learned", "compensated"),
    "bias_correction": (True,),
    "weight_range": ("hqq",),
}
"""Values of options that make good for rounding to the nearest code; without any of them rounding is plain."""


def show_gain(library: Library, run: RunDocument) -> None:
    """The gain of a finished run over plain rounding, or the way to measure it; nothing for a run that rounds plainly."""
    if plain_options(run) == run["options"]:
        return
    st.markdown("**Against plain rounding**")
    plain = find_plain(library, run)
    if plain is None:
        st.caption("Not measured: no run of the same samples and seed rounds plainly.")
        st.page_link(
            "new_experiment.py",
            label="Measure it",
            icon=":material/add_circle:",
            query_params=address_of([run | {"options": plain_options(run)}]),
        )
        return
    st.markdown(gain_words(run, plain))
    ids = f"{plain['run_id']},{run['run_id']}"
    st.page_link("compare.py", label="Compare the two", icon=":material/compare_arrows:", query_params={"runs": ids})


def find_plain(library: Library, run: RunDocument) -> RunDocument | None:
    """The newest finished run that differs in nothing but that it rounds plainly."""
    plain = plain_options(run)
    candidates = library.store.runs(status=Status.DONE, model=run["model"], backend=run["backend"])
    alike = ("technique", "measurement", "keep_float")
    fits = (one for one in candidates if one["options"] == plain and all(one[name] == run[name] for name in alike))
    return next(fits, None)


def gain_words(run: Mapping[str, Any], plain: Mapping[str, Any]) -> str:
    """The change of output error and of accuracy, with what can be said of chance."""
    parts = []
    errors = [one["quality"].get("output_sqnr_db") for one in (plain, run)]
    if None not in errors:
        change = f"{fmt.fixed(errors[1] - errors[0], 1, signed=True)}{fmt.SPACE}dB"
        parts.append(f"output SQNR {fmt.decibels(errors[0])} → {fmt.decibels(errors[1])} (**{change}**)")
    relative = against(run, plain)
    if relative.change is not None and relative.accuracy is not None:
        bounds = fmt.interval(relative.change_bounds, fmt.difference)
        parts.append(f"accuracy **{fmt.points(relative.change, 2)}** {bounds}, {relative.accuracy.markdown()}")
    return "; ".join(parts) or "Neither run has a figure to compare."


def plain_options(run: Mapping[str, Any]) -> dict[str, OptionValue]:
    """The options of a run with plain rounding, all others as they are."""
    cell = capability(Backend(run["backend"]), Technique.parse(run["technique"]))
    defaults = {option.name: option.default for option in cell.options}
    return {name: defaults[name] if value in IMPROVEMENTS.get(name, ()) else value for name, value in run["options"].items()}
