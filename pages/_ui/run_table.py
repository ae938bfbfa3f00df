"""The table of runs: documents in, a frame out, and how its columns are shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
import streamlit as st

from pages._ui import format as fmt
from pages._ui.outcome import BADGES, badge

FIGURES = ("size_kb", "smaller", "top1", "drop", "p50", "faster")


def frame(runs: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a run; what a run has not measured is None."""
    return pd.DataFrame([_row(run) for run in runs], columns=list(COLUMNS)).astype(dict.fromkeys(FIGURES, "float64"))


def _row(run: Mapping[str, Any]) -> dict[str, Any]:
    size, quality, latency = (run.get(section) or {} for section in ("size", "quality", "latency"))
    n_bytes, top1, drop = size.get("bytes"), quality.get("top1"), quality.get("drop_pp")
    return {
        "status": [badge(run).word],
        "model": run["model"],
        "backend": fmt.backend_name(run["backend"]),
        "technique": fmt.technique_name(run["technique"]),
        "size_kb": None if n_bytes is None else n_bytes / 1000,
        "smaller": size.get("ratio"),
        "top1": None if top1 is None else 100 * top1,
        "drop": None if drop is None else round(drop, 1) + 0.0,  # not minus zero
        "p50": latency.get("p50_ms"),
        "faster": latency.get("speedup"),
        "where": "Bundled example" if run.get("example") else "This machine",
        "created": pd.Timestamp(run["created"], unit="s", tz="UTC") if run.get("created") else None,
    }


_NUMBER = st.column_config.NumberColumn
_TEXT = st.column_config.TextColumn
COLUMNS: Mapping[str, Any] = {
    "status": st.column_config.MultiselectColumn(
        "Status", options=[one.word for one in BADGES.values()], color=[one.colour for one in BADGES.values()]
    ),
    "model": _TEXT("Model"),
    "backend": _TEXT("Backend"),
    "technique": _TEXT("Technique"),
    "size_kb": _NUMBER("Size, KB", format="%.1f", help="Bytes of the file one would ship"),
    "smaller": _NUMBER("Smaller, ×", format="%.2f", help="Bytes of the same backend's float file ÷ bytes of this one"),
    "top1": _NUMBER("Top-1, %", format="%.1f", help="Accuracy on the test split"),
    "drop": _NUMBER("Drop, points", format="%.1f", help="Accuracy lost against the same backend's float model"),
    "p50": _NUMBER("p50, ms", format="%.3f", help="Median latency at batch 1; empty when simulated or not measured"),
    "faster": _NUMBER("Faster, ×", format="%.2f", help="Median latency of the same backend's float model ÷ this one's"),
    "where": _TEXT("Measured on"),
    "created": st.column_config.DatetimeColumn("Created", format="YYYY-MM-DD HH:mm"),
}
