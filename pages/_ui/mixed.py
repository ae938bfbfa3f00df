"""Mixed precision in the form: which layers get how many bits. Widgets bind to the address, so that a link keeps the choice."""

from __future__ import annotations

import json
from collections.abc import Sequence

import streamlit as st

from quantizers.errors import InputError
from quantizers.schema import Technique

CODE = "mixed"
"""How the matrix and the address name mixed precision; the technique's whole code names the layers, too."""
WIDTHS: dict[str, int | str] = {"2": 2, "4": 4, "8": 8, "16": 16, "float": "float"}
REST = "new_mixed_rest"
USUAL_REST, USUAL_ENDS = "4", "8"
"""What is offered first: the first and the last layer, which usually suffer most, at 8 bits, and the others at 4."""


def choose_mixed(layers: Sequence[str]) -> str:
    """Draws the choice and returns the technique's code.

    Raises:
        InputError: a layer was given two widths.
    """
    ends = list(dict.fromkeys((layers[0], layers[-1])))
    with st.container(border=True):
        st.markdown("**Mixed precision**: bits of each layer's weights")
        with st.grid("auto", min_column_width=200):
            rest = st.selectbox(
                "All other layers",
                list(WIDTHS),
                list(WIDTHS).index(USUAL_REST),
                format_func=_words,
                key=REST,
                bind="query-params",
            )
            chosen = {
                width: st.multiselect(
                    _words(width).capitalize(),
                    layers,
                    ends if width == USUAL_ENDS else [],
                    key=f"new_mixed_{width}",
                    bind="query-params",
                    placeholder="None",
                )
                for width in WIDTHS
            }
    return code({width: names for width, names in chosen.items() if names}, rest)


def code(chosen: dict[str, list[str]], rest: str) -> str:
    """The code of a choice: the layers of each width, and the width of all others.

    Raises:
        InputError: a layer was given two widths.
    """
    bits: dict[str, int | str] = {}
    for width, names in chosen.items():
        for name in names:
            if name in bits:
                raise InputError(f"The layer {name} was given two widths.", "Take it out of one of them.")
            bits[name] = WIDTHS[width]
    text = "mixed:" + json.dumps(bits | {"*": WIDTHS[rest]}, separators=(",", ":"))
    return Technique.parse(text).code


def parameters(technique: Technique, layers: Sequence[str]) -> dict[str, str | list[str]]:
    """The parameters of the address that bring the choice of a technique back."""
    widths = technique.bits_by_layer(layers)
    rest = dict(technique.layers).get("*", 0)
    found: dict[str, str | list[str]] = {
        f"new_mixed_{width}": [name for name in layers if widths[name] == bits and bits != rest]
        for width, bits in ((width, 0 if bits == "float" else int(bits)) for width, bits in WIDTHS.items())
    }
    return found | {REST: str(rest or "float")}


def _words(width: str) -> str:
    return width if width == "float" else f"{width} bits"
