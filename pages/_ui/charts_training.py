"""Learning curves of a trial that trains: loss and accuracy after each epoch, the quantization-aware arm beside its control."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from pages._ui import charts
from pages._ui import format as fmt
from pages._ui.theme import Palette

Epochs = Sequence[Mapping[str, Any]]
ARMS = {"qat": "Quantization-aware", "control": "Control, in float"}
"""By the name of an arm in a run's document (`quantizers.adapter.Arm`), the words on its line."""
HEIGHT = 240
_AXES: Mapping[str, tuple[str, Callable[[float], str]]] = {
    "loss": ("Mean loss over the training samples", fmt.number),
    "accuracy": ("Top-1 accuracy", fmt.percent),
}


def learning_curve(epochs: Epochs, what: str, colours: Palette) -> go.Figure:
    """One line an arm over the epochs.

    Args:
        epochs: as a run's document has them: arm, epoch, loss, accuracy (0 to 1).
        what: "loss" or "accuracy".
    """
    figure = charts.bare(colours, HEIGHT)
    title, write = _AXES[what]
    looks = {"qat": (colours.accent, "solid", "circle"), "control": (colours.reference, "dash", "circle-open")}
    for arm, name in ARMS.items():
        own = [epoch for epoch in epochs if epoch["arm"] == arm]
        if not own:
            continue
        colour, dash, symbol = looks[arm]
        figure.add_scatter(
            x=[epoch["epoch"] for epoch in own],
            y=[epoch[what] for epoch in own],
            name=name,
            mode="lines+markers",
            line={"color": colour, "dash": dash},
            marker={"symbol": symbol, "size": 8},
            text=[write(epoch[what]) for epoch in own],
            hovertemplate=f"{name}<br>epoch %{{x}}: %{{text}}<extra></extra>",
        )
    last = max((epoch["epoch"] for epoch in epochs), default=1)
    figure.update_xaxes(title_text="Epoch", range=[0.8, last + 0.2], dtick=max(1, last // 10))
    figure.update_yaxes(title_text=title, tickformat=".1%" if what == "accuracy" else None)
    return figure


def finding(epochs: Epochs, what: str) -> str:
    """Where each arm is after its last epoch, in words."""
    title, write = ("Loss", fmt.number) if what == "loss" else ("Top-1 accuracy", fmt.percent)
    latest = {epoch["arm"]: epoch for epoch in epochs}
    words = [
        f"{write(latest[arm][what])} {label}" for arm, label in (("qat", "trained"), ("control", "control")) if arm in latest
    ]
    return f"{title}: {', '.join(words)} after epoch {max(epoch['epoch'] for epoch in latest.values())}"
