"""Training as pages show it: curves while it runs and afterwards, and what it was worth against its control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from pages._ui import charts, charts_training
from pages._ui import format as fmt
from pages._ui.theme import palette

Epochs = Sequence[Mapping[str, Any]]
CONTROL = (
    "Control: the same network, trained as long in float, then rounded without training. What is gained over it is QAT's own."
)


def show_curves(epochs: Epochs, key: str) -> None:
    """Loss and accuracy by epoch; nothing before the first epoch has ended."""
    if not epochs:
        return
    for column, what in zip(st.columns(2), ("loss", "accuracy"), strict=True):
        with column:
            charts.show(
                charts_training.learning_curve(epochs, what, palette()),
                title=charts_training.finding(epochs, what),
                alt=f"{what.capitalize()} by epoch for both arms; {charts_training.finding(epochs, what)}",
                key=f"{key}_{what}",
                meaning=CONTROL,
            )


def show_training(training: Mapping[str, Any], key: str) -> None:
    """The section "training" of a finished run."""
    st.markdown(verdict_words(training))
    show_curves(training["epochs"], key)
    with st.expander("Every epoch"):
        st.dataframe(pd.DataFrame(training["epochs"]), hide_index=True, key=f"{key}_epochs", alt="Loss and accuracy by epoch")


def verdict_words(training: Mapping[str, Any]) -> str:
    """The paired gain over the control with its interval, and whether it is one."""
    epochs = max(epoch["epoch"] for epoch in training["epochs"])
    spent = f"{epochs} epoch{'s' if epochs > 1 else ''} in each arm, {fmt.seconds(training['seconds'])}"
    gain = training["against_control"]
    if gain["drop_pp"] is None:
        return f"Trained for {spent}. Without labels there is no accuracy to compare with the control's."
    low, high = sorted(0.0 - bound for bound in gain["drop_pp_ci95"])
    figure = f"**{fmt.points(0.0 - gain['drop_pp'], 2)}** {fmt.interval((low, high), fmt.difference)}"
    return f"Quantization-aware training against its equal-budget control: {figure}, {_verdict(gain)} Trained for {spent}."


def _verdict(gain: Mapping[str, Any]) -> str:
    verdict = fmt.accuracy_verdict(gain)
    assert verdict is not None
    if gain["within_noise"]:
        return f"{verdict.markdown()}: plain training gave as much."
    return f"{verdict.markdown()} than the control." if gain["drop_pp"] < 0 else f"{verdict.markdown()} than plain training."
