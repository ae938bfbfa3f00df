"""Closed loop: what can be changed about one layer of a finished run, and the experiment that changes it. Pure.

The new run has every condition of the old one. What a technique cannot do comes with the reason, from the capability table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from experiments.frontier import technique_code
from experiments.spec import ExperimentSpec, TrialSpec
from quantizers.capabilities import BACKEND_TITLES, MIXED, Capability, capability
from quantizers.schema import Backend, Mode, OptionValue, Technique

Run = Mapping[str, Any]
Setting = tuple[str, OptionValue]
CLIPPING = ("weight_range", "observer", "calibrator")
"""Options that decide which range integers cover: of weights, or of activations."""
WIDTHS = (2, 4, 8, 16)
INTEGER_ACTIVATIONS = 8
"""Bits of activations in mixed precision; only a technique with the same can give one layer other weights and keep the rest."""


@dataclass(frozen=True, slots=True)
class Possible:
    """What can be done about one layer of one run.

    Attributes:
        keep_float_why_not: None when the layer can stay in float.
        bits: width of the layer's weight now, and the next wider one; None beside `more_bits_why_not`.
        clipping: other settings of the options that decide on ranges; they hold for all layers.
    """

    keep_float_why_not: str | None
    bits: tuple[int, int] | None
    more_bits_why_not: str | None
    clipping: tuple[Setting, ...]
    clipping_why_not: str | None

    @property
    def anything(self) -> bool:
        return self.keep_float_why_not is None or self.bits is not None or bool(self.clipping)


@dataclass(frozen=True, slots=True)
class Change:
    """What a person wants of a layer; nothing to begin with."""

    layer: str
    keep_float: bool = False
    more_bits: bool = False
    clipping: Setting | None = None

    @property
    def empty(self) -> bool:
        return not (self.keep_float or self.more_bits or self.clipping)


def possible(run: Run, layer: str) -> Possible:
    """What the backend and the technique of a run, which must carry its layers, can express about one of them."""
    cell, technique = _cell(run), Technique.parse(run["technique"])
    where = f"{cell.title} on {BACKEND_TITLES[cell.backend]}"
    if technique.mode is Mode.FLOAT32:
        reason = "Nothing is quantized in a float baseline."
        return Possible(reason, None, reason, (), reason)
    if not _layer(run, layer)["quantized"]:
        keep_float: str | None = f"{layer} is in float already."
        wider: tuple[int, int] | str = keep_float or ""
    else:
        keep_float = f"{where}: {cell.keep_float_why_not}" if cell.keep_float_why_not else None
        wider = _wider(run, layer, technique)
    clipping = tuple(
        (option.name, choice)
        for option in cell.options
        if option.name in CLIPPING
        for choice in option.choices
        if choice != run["options"].get(option.name, option.default)
    )
    return Possible(
        keep_float_why_not=keep_float,
        bits=None if isinstance(wider, str) else wider,
        more_bits_why_not=wider if isinstance(wider, str) else None,
        clipping=clipping,
        clipping_why_not=None if clipping else f"{where} has one way to find ranges.",
    )


def experiment(run: Run, change: Change) -> ExperimentSpec:
    """The run again with one layer changed, ready for planning."""
    trial = TrialSpec.from_dict(run)
    technique, keep_float, options = Technique.parse(trial.technique), trial.keep_float, dict(trial.options)
    names, code = [layer["name"] for layer in run["layers"]], trial.technique
    if change.clipping:
        options |= dict([change.clipping])
    if change.keep_float and technique.mode is Mode.MIXED:
        code = technique_code(technique.bits_by_layer(names) | {change.layer: 0})
    elif change.keep_float:
        keep_float = tuple(dict.fromkeys((*keep_float, change.layer)))
    elif change.more_bits and (bits := possible(run, change.layer).bits):
        code = technique_code(_widths(technique, names, keep_float) | {change.layer: bits[1]})
        known = {option.name: option.choices for option in MIXED[trial.backend].options}
        options = {name: value for name, value in options.items() if value in known.get(name, ())}
        keep_float = ()
    return ExperimentSpec(trial.model, ((trial.backend, code),), trial.measurement, options, keep_float)


def _wider(run: Run, layer: str, technique: Technique) -> tuple[int, int] | str:
    """The width of a layer's weight and the next one, or why there is none."""
    backend = Backend(run["backend"])
    title = BACKEND_TITLES[backend]
    if backend not in MIXED:
        return f"{title} has no mixed precision."
    if why_not := MIXED[backend].why_not:
        return f"Mixed precision on {title}: {why_not}"
    static = technique.mode is Mode.STATIC and technique.activation_bits == INTEGER_ACTIVATIONS
    if technique.mode is not Mode.MIXED and not static:
        return (
            f"{_cell(run).title} has one width for all layers. Mixed precision, which has a width for each, "
            f"also takes activations to {INTEGER_ACTIVATIONS} bits and so would change the other layers, too."
        )
    now = _widths(technique, [one["name"] for one in run["layers"]], run["keep_float"])[layer]
    following = next((width for width in WIDTHS if width > now), None)
    return (now, following) if following else f"{layer} has {now} bits, the most there are below float."


def _widths(technique: Technique, names: list[str], keep_float: Any) -> dict[str, int]:
    if technique.mode is Mode.MIXED:
        return technique.bits_by_layer(names)
    return {name: 0 if name in keep_float else technique.weight_bits or 0 for name in names}


def _cell(run: Run) -> Capability:
    return capability(Backend(run["backend"]), Technique.parse(run["technique"]))


def _layer(run: Run, name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = next(layer for layer in run["layers"] if layer["name"] == name)
    return found
