"""The table of runs: documents in, a frame out that sorts by figures and shows them as a person reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pandas as pd
import streamlit as st
from pandas.io.formats.style import Styler

from pages._ui import format as fmt
from pages._ui.outcome import BADGES, badge

_FORMATS: dict[Any, str | Callable[[Any], str] | None] = {
    "size": fmt.size,
    "smaller": fmt.times,
    "top1": fmt.percent,
    "change": lambda value: fmt.fixed(value, 1, signed=True),
    "p50": fmt.milliseconds,
    "speedup": fmt.times,
}


def table(runs: Iterable[Mapping[str, Any]]) -> Styler:
    """One row a run; what a run has not measured is missing."""
    frame = pd.DataFrame([_row(run) for run in runs], columns=list(COLUMNS)).astype(dict.fromkeys(_FORMATS, "float64"))
    return frame.style.format(_FORMATS, na_rep=fmt.MISSING)


def _row(run: Mapping[str, Any]) -> dict[str, Any]:
    size, quality, latency = (run.get(section) or {} for section in ("size", "quality", "latency"))
    drop = quality.get("drop_pp")
    return {
        "status": [badge(run).word],
        "model": run["model"],
        "backend": fmt.backend_name(run["backend"]),
        "technique": fmt.technique_name(run["technique"]),
        "size": size.get("bytes"),
        "smaller": size.get("ratio"),
        "top1": quality.get("top1"),
        "change": None if drop is None else -drop,
        "p50": latency.get("p50_ms"),
        "speedup": latency.get("speedup"),
        "tags": list(run["tags"]),
        "where": "Bundled example" if run.get("example") else "This machine",
        "created": pd.Timestamp(run["created"], unit="s", tz="UTC") if run.get("created") else None,
    }


_COLUMN = st.column_config.Column
COLUMNS: Mapping[str, Any] = {
    "status": st.column_config.MultiselectColumn(
        "Status", options=[one.word for one in BADGES.values()], color=[one.colour for one in BADGES.values()]
    ),
    "model": _COLUMN("Model"),
    "backend": _COLUMN("Backend", width=110),
    "technique": _COLUMN("Technique"),
    "size": _COLUMN("Size", help="Bytes of the file one would ship"),
    "smaller": _COLUMN("Smaller", help="Bytes of the same backend's float file ÷ bytes of this one"),
    "top1": _COLUMN("Top-1", help="Share of right answers on the test data"),
    "change": _COLUMN("Change", help="Accuracy less that of the same backend's float model, in percentage points"),
    "p50": _COLUMN("p50", width=95, help="Median time of one inference; missing when simulated or not measured"),
    "speedup": _COLUMN("Speed-up", help="p50 of the same backend's float model ÷ p50 of this one"),
    "tags": st.column_config.ListColumn("Tags"),
    "where": _COLUMN("Measured on"),
    "created": st.column_config.DatetimeColumn("Created", format="YYYY-MM-DD HH:mm"),
}
