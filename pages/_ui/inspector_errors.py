"""The errors of one layer side by side: of its weight, of its output by itself, and of its output after all before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from pages._ui import format as fmt
from pages._ui.charts_layers import MEANINGS, Part, errors_of

TITLES = {
    Part.WEIGHT: "Weight",
    Part.WEIGHT_ONLY: "Output, only its weight quantized",
    Part.ACTIVATION_ONLY: "Output, only its activations quantized",
    Part.ISOLATED: "Output, only this layer quantized",
    Part.OUTPUT: "Output, cumulative",
}
HELP = "  \n".join(f"**{TITLES[part]}**: {MEANINGS[part]}" for part in TITLES)


def table(layer: Mapping[str, Any]) -> pd.DataFrame:
    """A row a part: SQNR, cosine, largest error and MSE as text, and the reason where there is none."""
    rows = [_row(layer, part) for part in TITLES]
    return pd.DataFrame(rows).set_index("Error of")


def _row(layer: Mapping[str, Any], part: Part) -> dict[str, str]:
    report, why_not = errors_of(layer, part)
    exact = report.get("sqnr_db_why_not") == "exact"
    sqnr = report.get("sqnr_db")
    return {
        "Error of": TITLES[part],
        "SQNR": "exact" if exact else fmt.decibels(sqnr),
        "Cosine": fmt.fixed(report.get("cosine"), 5),
        "Largest": fmt.number(report.get("max_abs")),
        "MSE": fmt.number(report.get("mse")),
        "Remark": "" if exact or sqnr is not None else str(report.get("sqnr_db_why_not") or why_not),
    }


def show_errors(layer: Mapping[str, Any]) -> None:
    st.markdown("**Where its error arises**", help=HELP)
    st.table(table(layer), border="horizontal", alt=f"Errors of {layer['name']}: weight, isolated output, cumulative output")
