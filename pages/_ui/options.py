"""The folded options of an experiment, their defaults written out. Widgets bind to the address, so that a link keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from experiments.spec import DEFAULT_CALIBRATION_SAMPLES, MAX_THREADS, LatencyProtocol, Measurement
from models import catalogue
from models.samples import Dataset, Split
from pages._ui import format as fmt
from pages._ui.matrix import Pair, cell
from quantizers.capabilities import BACKEND_TITLES, Option, capability
from quantizers.schema import Backend, OptionValue, Technique

MAX_SEED = 2**32 - 1
PRIORITIES = {"In turn": 0, "Before all others": 1, "When nothing else waits": -1}
_PRIORITY_HELP = "Which experiment goes next when several wait; what runs already is not stopped."
OPTION_TITLES = {
    "activations": "Activations' zero point",
    "bias_correction": "Bias correction",
    "calibrator": "Calibrator",
    "epochs": "Epochs of training",
    "equalize": "Cross-layer equalization",
    "float_fallback": "Float where no integer kernel",
    "format": "File format",
    "io": "Input and output type",
    "learning_rate": "Learning rate",
    "lowered": "Fused for this CPU",
    "observer": "Calibration observer",
    "op_types": "Layers quantized",
    "per_channel": "A scale per channel",
    "reduce_range": "7-bit weights",
    "rounding": "Rounding",
    "scheme": "Weights' scheme",
    "types": "Integer types",
    "weight_range": "Weights' range",
}
DEFAULT = "default"
"""What a control says while each technique keeps a default of its own."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What the options say: the conditions of measurement, technique options off their default, layers kept float, and how
    urgent it is."""

    measurement: Measurement
    options: Mapping[str, OptionValue]
    keep_float: tuple[str, ...]
    priority: int


def choose_options(model: str, data: str, described: Dataset | None, pairs: Sequence[Pair]) -> Choices:
    """Draws the options.

    Args:
        described: what is known of `data`; None for a person's own file.

    Raises:
        InputError: a number is out of bounds.
    """
    with st.expander("Options", icon=":material/tune:", key="new_options"):
        with st.grid("auto", min_column_width=180):
            samples = _samples(described)
            seed = st.number_input("Seed", 0, MAX_SEED, 0, key="new_seed", bind="query-params", help=_SEED_HELP)
            threads = st.number_input("Threads", 1, MAX_THREADS, 1, key="new_threads", bind="query-params", help=_THREADS_HELP)
            latency = st.selectbox(
                "Latency",
                [protocol.value for protocol in LatencyProtocol],
                key="new_latency",
                bind="query-params",
                help=_LATENCY_HELP,
            )
            priority = st.selectbox("Priority", list(PRIORITIES), key="new_priority", bind="query-params", help=_PRIORITY_HELP)
        options = _technique_options(pairs)
        keep_float = _keep_float(model, pairs)
    measurement = Measurement(data, *samples, int(seed), int(threads), LatencyProtocol(latency))
    return Choices(measurement, options, keep_float, PRIORITIES[priority])


_SEED_HELP = "Chooses the samples and starts every random number; the same seed gives the same run."
_THREADS_HELP = "Threads the runtime may use while latency is measured."
_LATENCY_HELP = (
    "Measured in fresh processes, alone on the machine and interleaved with the float baseline. "
    "Quick takes up to a minute a trial, standard up to ten."
)


def off_default(run: Mapping[str, Any]) -> dict[str, OptionValue]:
    """The options of a stored run that are not its technique's defaults."""
    known = capability(Backend(run["backend"]), Technique.parse(run["technique"])).options
    defaults = {option.name: option.default for option in known}
    return {name: value for name, value in run["options"].items() if value != defaults.get(name)}


def _samples(described: Dataset | None) -> tuple[int | None, int | None]:
    sizes = described.splits if described else {}
    calibration, test = sizes.get(Split.CALIBRATION), sizes.get(Split.TEST)
    default = DEFAULT_CALIBRATION_SAMPLES if calibration is None else min(DEFAULT_CALIBRATION_SAMPLES, calibration)
    chosen = st.number_input(
        "Calibration samples",
        value=None,
        step=1,
        key="new_calibration",
        bind="query-params",
        placeholder=f"{default}" + (f" of {fmt.count(calibration)}" if calibration else ""),
        help="Samples that static techniques derive activation ranges from.",
    )
    evaluated = st.number_input(
        "Evaluation samples",
        value=None,
        step=1,
        key="new_evaluation",
        bind="query-params",
        placeholder=f"all {fmt.count(test)}" if test else "all",
        help="Samples accuracy and agreement are measured on. Fewer are faster and give wider intervals.",
    )
    return chosen, evaluated


def _technique_options(pairs: Sequence[Pair]) -> dict[str, OptionValue]:
    """A control for each option that a chosen technique has; returns those that are off their default."""
    offered: dict[str, dict[Pair, Option]] = {}
    for pair in pairs:
        for option in cell(pair).options:
            offered.setdefault(option.name, {})[pair] = option
    if not offered:
        return {}
    with st.grid("auto", min_column_width=180):
        values = {name: _technique_option(name, uses) for name, uses in offered.items()}
    return {name: value for name, value in values.items() if value is not None}


def _technique_option(name: str, uses: Mapping[Pair, Option]) -> OptionValue | None:
    """The control of one option; returns its value, or None while every technique keeps its default."""
    first, *others = dict.fromkeys(option.default for option in uses.values())
    default = DEFAULT if others else first
    choices = [default, *(choice for option in uses.values() for choice in option.choices)]
    where = ", ".join(f"{BACKEND_TITLES[backend]} {fmt.technique_name(code)}" for backend, code in uses)
    value = st.selectbox(
        OPTION_TITLES.get(name, name.replace("_", " ").capitalize()),
        list(dict.fromkeys(choices)),
        format_func=lambda choice: str(choice).lower(),
        key=f"new_option_{name}",
        bind="query-params",
        help=f"{next(iter(uses.values())).help}. Applies to {where}.",
    )
    return None if value == default else value


def _keep_float(model: str, pairs: Sequence[Pair]) -> tuple[str, ...]:
    cells = [cell(pair) for pair in pairs]
    if all(one.keep_float_why_not for one in cells):
        return ()
    unable = [f"{one.title} on {BACKEND_TITLES[one.backend]} cannot." for one in cells if one.keep_float_why_not]
    reasons = " ".join(unable)
    layers = st.multiselect(
        "Layers kept in float",
        catalogue.layer_names(model),
        key="new_keep_float",
        bind="query-params",
        placeholder="None: every layer is quantized",
        help=f"Leave the layers that suffer most in float and quantize the rest. {reasons}",
    )
    return tuple(layers)
