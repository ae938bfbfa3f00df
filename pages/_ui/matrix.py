"""The technique × backend matrix. The address holds the choice (`new_techniques=backend:code,…`); checkboxes only show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from models import catalogue
from models.float_model import ModelInfo
from pages._ui import mixed
from quantizers.capabilities import (
    BACKEND_TITLES,
    BACKENDS,
    CAPABILITIES,
    MIXED,
    TECHNIQUE_TITLES,
    Capability,
    capability,
    require,
)
from quantizers.errors import InputError
from quantizers.schema import Backend, Execution, Mode, Technique

Pair = tuple[Backend, str]
"""A backend and a technique's code; mixed precision is `mixed.CODE` until its layers are chosen."""
PARAMETER = "new_techniques"
COLUMNS = 2.6, 1.2
"""Widths of a technique's name and of each backend."""
FEW_BITS = 4
QUICK_LOOK = ("float32", "dynamic_wi8", "static_wi8_ai8")
TITLES: Mapping[str, str] = {**TECHNIQUE_TITLES, mixed.CODE: "Mixed precision, bits layer by layer"}


def possible() -> list[Pair]:
    """Every pair of the matrix that can run, technique by technique."""
    named = [
        (backend, code)
        for code in TECHNIQUE_TITLES
        for backend in BACKENDS
        if (backend, code) in CAPABILITIES and CAPABILITIES[backend, code].available
    ]
    return [*named, *((backend, mixed.CODE) for backend in BACKENDS if backend in MIXED)]


def presets() -> Mapping[str, list[Pair]]:
    """Named choices, by the words on their button."""
    everything = [pair for pair in possible() if pair[1] != mixed.CODE]
    everywhere = {code for _, code in everything if all((backend, code) in everything for backend in BACKENDS)}
    named = {"Quick look": [pair for pair in everything if pair[1] in QUICK_LOOK]}
    named |= {f"All of {BACKEND_TITLES[b]}": [pair for pair in everything if pair[0] is b] for b in BACKENDS}
    named |= {
        "Same technique everywhere": [pair for pair in everything if pair[1] in everywhere],
        "4-bit and below": [pair for pair in everything if _few_bits(pair[1])],
        "Clear": [],
    }
    return named


def _few_bits(code: str) -> bool:
    technique = Technique.parse(code)
    return technique.mode in (Mode.BINARY, Mode.TERNARY) or (technique.weight_bits or FEW_BITS + 1) <= FEW_BITS


def read(text: str | None) -> tuple[list[Pair], list[str]]:
    """The pairs an address names, and the entries in it that name none; no text at all is the quick look."""
    if text is None:
        return presets()["Quick look"], []
    known = {f"{backend}:{code}": (backend, code) for backend, code in possible()}
    entries = [entry for entry in text.split(",") if entry]
    return [known[entry] for entry in dict.fromkeys(entries) if entry in known], [e for e in entries if e not in known]


def write(pairs: Sequence[Pair]) -> str:
    """The address's text for a choice; `read` reads it back."""
    return ",".join(f"{backend}:{code}" for backend, code in pairs)


def cell(pair: Pair) -> Capability:
    """What is known of a pair that can run."""
    return capability(pair[0], _technique(pair[1]))


def matrix(info: ModelInfo) -> list[Pair]:
    """Draws presets and checkboxes for a model; returns the chosen pairs.

    Raises:
        InputError: the layers of a mixed precision contradict each other.
    """
    chosen, unknown = read(st.query_params.get(PARAMETER))
    with st.container(horizontal=True):
        for label, pairs in presets().items():
            st.button(label, key=f"new_preset_{label}", on_click=_choose, args=(pairs,))
    if unknown:
        st.warning(f"The address names {', '.join(unknown)}, which cannot be run here. The rest was kept.")
    with st.container(gap="xsmall"):
        for code, title in TITLES.items():
            _row(info, code, title, chosen)
    if all(code != mixed.CODE for _, code in chosen):
        return chosen
    layers = mixed.choose_mixed(catalogue.layer_names(info.id))
    return [(backend, layers if code == mixed.CODE else code) for backend, code in chosen]


def _row(info: ModelInfo, code: str, title: str, chosen: Sequence[Pair]) -> None:
    label, *cells = st.columns([COLUMNS[0], *COLUMNS[1:] * len(BACKENDS)], vertical_alignment="center", gap="small")
    label.markdown(f"{title} :small[:gray[`{code}`]]")
    for backend, place in zip(BACKENDS, cells, strict=True):
        reason = why_not(backend, code, info)
        key = _key((backend, code))
        st.session_state[key] = (backend, code) in chosen
        place.checkbox(_label(backend, code), key=key, disabled=reason is not None, help=reason, on_change=_toggled)


def why_not(backend: Backend, code: str, info: ModelInfo | None = None) -> str | None:
    """Why a cell of the matrix is impossible, for `info` if it is given; None when it is possible."""
    technique = _technique(code)
    try:
        require(backend, technique)
    except InputError as error:
        return error.message
    refusal = catalogue.refusal(info, backend, technique) if info else None
    return refusal.message if refusal else None


def _label(backend: Backend, code: str) -> str:
    simulated = why_not(backend, code) is None and cell((backend, code)).execution is Execution.SIMULATED
    return f"{BACKEND_TITLES[backend]} (simulated)" if simulated else BACKEND_TITLES[backend]


def _technique(code: str) -> Technique:
    return Technique(Mode.MIXED) if code == mixed.CODE else Technique.parse(code)


def _key(pair: Pair) -> str:
    return f"new_cell_{pair[0]}_{pair[1]}"


def _choose(pairs: Sequence[Pair]) -> None:
    st.query_params[PARAMETER] = write(pairs)


def _toggled() -> None:
    _choose([pair for pair in possible() if st.session_state[_key(pair)]])
