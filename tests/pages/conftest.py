"""Pages run in this process, on a data directory of their own and on made-up examples."""

from __future__ import annotations

from pathlib import Path

import pytest
import streamlit as st
from made_runs import make_run, write_examples

from experiments.library import Library

TECHNIQUES = {
    "pytorch": ("float32", "static_wi8_ai8", "weight_only_wi8"),
    "tflite": ("float32", "static_wi8_ai8", "static_wi8_ai16", "float16"),
}


@pytest.fixture(autouse=True)
def clean_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data directory and no examples."""
    monkeypatch.setenv("QUANTSCOPE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(Library.__init__, "__defaults__", (None, tmp_path / "examples"))
    st.cache_resource.clear()
    st.cache_data.clear()
    return tmp_path / "home"


@pytest.fixture
def examples(tmp_path: Path) -> list[str]:
    """Made-up examples of two models; returns the ids of the first model's."""
    pairs = [(backend, code) for backend, codes in TECHNIQUES.items() for code in codes]
    runs = [make_run("", *pair, model=model) for model in ("fashion-cnn", "mnist-cnn") for pair in pairs]
    write_examples(tmp_path / "examples", runs)
    return [f"example-fashion-cnn--{backend}--{code}" for backend, code in pairs]
