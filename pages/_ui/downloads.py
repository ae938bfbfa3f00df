"""The files of a finished run as buttons; each is read only when it is pressed."""

from __future__ import annotations

import json

import streamlit as st

from experiments.export import layers_csv
from experiments.library import Library
from experiments.store.store import RunDocument


def downloads(library: Library, run: RunDocument, *, key: str) -> None:
    """Buttons for the artefact, the scales and zero points as CSV, and the run as JSON.

    Args:
        run: a finished run with its layers.
        key: prefix of the widgets' keys.
    """
    name = f"{run['model']}-{run['backend']}-{run['technique']}"
    artefact = library.file(run["run_id"], "artefact")
    with st.container(horizontal=True):
        st.download_button(
            f"Artefact ({artefact.suffix})",
            artefact.read_bytes,
            f"{name}{artefact.suffix}",
            mime="application/octet-stream",
            key=f"{key}_artefact",
            icon=":material/download:",
            on_click="ignore",
        )
        st.download_button(
            "Scales and zero points (CSV)",
            lambda: layers_csv(run),
            f"{name}-layers.csv",
            mime="text/csv",
            key=f"{key}_csv",
            icon=":material/download:",
            on_click="ignore",
        )
        st.download_button(
            "Run (JSON)",
            lambda: json.dumps(run, indent=1, ensure_ascii=False, allow_nan=False),
            f"{name}.json",
            mime="application/json",
            key=f"{key}_json",
            icon=":material/download:",
            on_click="ignore",
        )
