"""The frame around every page: page config and navigation. Pages are registered here and nowhere else."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

st.set_page_config(page_title="QuantScope", page_icon=":material/compress:", layout="wide")

PAGES = (
    ("overview", "Overview", "monitoring", "Finished example runs, measured"),
    ("new_experiment", "New experiment", "add_circle", "Choose a model, data and techniques, and run them"),
    ("compare", "Compare", "compare_arrows", "Two to eight runs side by side"),
    ("layers", "Layers", "layers", "One run, every tensor"),
    ("runs", "Runs", "history", "Everything that was run here"),
)


def page(script: str, title: str, icon: str, purpose: str) -> st.Page:
    """The overview lives at "/"; every other page at the first word of its script's name."""
    default = script == "overview"
    path = "" if default else script.partition("_")[0]
    file = Path(__file__).with_name(f"{script}.py")
    return st.Page(file, title=title, icon=f":material/{icon}:", help=purpose, url_path=path, default=default)


st.navigation([page(*p) for p in PAGES if Path(__file__).with_name(p[0] + ".py").exists()], position="top").run()
