"""What better rounding gained: a finished run against its own plainly rounded twin, which answered the same samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from pages._ui import format as fmt


def show_gain(run: Mapping[str, Any]) -> None:
    """The section "improvement" of a finished run; nothing for one that rounds plainly."""
    if run.get("improvement"):
        st.markdown("**Against plain rounding**")
        st.markdown(gain_words(run["quality"], run["improvement"]))


def gain_words(quality: Mapping[str, Any], improvement: Mapping[str, Any]) -> str:
    """The change of output error, and of accuracy with its paired interval and whether it is one."""
    parts = []
    plain, better = improvement["plain"].get("output_sqnr_db"), quality.get("output_sqnr_db")
    if plain is not None and better is not None:
        change = f"{fmt.fixed(better - plain, 1, signed=True)}{fmt.SPACE}dB"
        parts.append(f"output SQNR {fmt.decibels(plain)} → {fmt.decibels(better)} (**{change}**)")
    gain = improvement["against_plain"]
    verdict = fmt.accuracy_verdict(gain)
    if verdict is not None:
        low, high = sorted(0.0 - bound for bound in gain["drop_pp_ci95"])
        figure = f"**{fmt.points(0.0 - gain['drop_pp'], 2)}** {fmt.interval((low, high), fmt.difference)}"
        parts.append(f"accuracy {figure}, {verdict.markdown()}")
    return "; ".join(parts) or "Neither of the two has a figure to compare."
