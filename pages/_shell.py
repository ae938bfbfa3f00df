"""The frame around every page: page config and navigation, and the job tray. Pages are registered here and nowhere else."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from pages._ui.tray import show_tray

HERE = Path(__file__).parent
ICON = HERE.parent / "static" / "icon.svg"  # a material icon would be fetched from the network

PAGES = (
    ("overview", "Overview", "monitoring", "Finished example runs, measured"),
    ("new_experiment", "New experiment", "add_circle", "Choose a model, data and techniques, and run them"),
    ("compare", "Compare", "compare_arrows", "Two to eight runs side by side"),
    ("layers", "Layers", "layers", "One run, every tensor"),
    ("sensitivity", "Sensitivity", "equalizer", "Which layers need their bits, and the best bits within a budget"),
    ("playground", "Playground", "tune", "What would happen to one tensor on another grid"),
    ("my_models", "My models", "folder_open", "Files of your own: what is in them, and what they take"),
    ("runs", "Runs", "history", "Everything that was run here"),
)


def page(script: str, title: str, icon: str, purpose: str) -> st.Page:
    """The overview lives at "/"; every other page at the first word of its script's name."""
    default = script == "overview"
    path = "" if default else script.partition("_")[0]
    return st.Page(HERE / f"{script}.py", title=title, icon=f":material/{icon}:", help=purpose, url_path=path, default=default)


st.set_page_config(page_icon=str(ICON), layout="wide")  # first, or the browser asks the network for the page's own icon
chosen = st.navigation([page(*p) for p in PAGES], position="top")
st.set_page_config(page_title=f"{chosen.title} · QuantScope")
show_tray()
chosen.run()
