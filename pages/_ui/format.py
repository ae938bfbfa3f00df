"""How figures and names are written: SI units, three significant digits, true minus, narrow no-break spaces."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from quantizers.capabilities import BACKEND_TITLES
from quantizers.errors import UnknownName
from quantizers.schema import Backend, Mode, Technique

SPACE = "\u202f"
MINUS = "−"
MISSING = "–"
EVEN = (0.95, 1.05)
"""Ratios between these read as no difference worth a word."""

Run = Mapping[str, Any]


class Tone(StrEnum):
    """What a verdict means, as the colour it is shown in."""

    BETTER = "green"
    WORSE = "red"
    NEUTRAL = "gray"


@dataclass(frozen=True, slots=True)
class Verdict:
    words: str
    tone: Tone

    def markdown(self) -> str:
        return f":{self.tone.value}[{self.words}]"


# ── numbers ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def number(value: float | None, digits: int = 3) -> str:
    """`digits` significant digits; powers of ten only where plain digits would not fit."""
    if value is None or not math.isfinite(value):
        return MISSING
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    if not 1e-4 <= abs(value) < 1e6:
        return f"{mantissa}e{int(exponent)}".replace("-", MINUS)
    return fixed(value, max(0, digits - 1 - int(exponent)))


def fixed(value: float | None, decimals: int, *, signed: bool = False) -> str:
    """A number with so many decimals, thin spaces between thousands and a true minus; "+" too when `signed`."""
    if value is None or not math.isfinite(value):
        return MISSING
    text = f"{abs(value):,.{decimals}f}".replace(",", SPACE)
    if float(text.replace(SPACE, "")) == 0:
        return text
    return (MINUS if value < 0 else "+" if signed else "") + text


def count(value: int | None) -> str:
    return fixed(value, 0)


def size(n_bytes: float | None) -> str:
    """Bytes in SI units: 45.2 KB, 1.31 MB."""
    if n_bytes is None:
        return MISSING
    if n_bytes < 1000:
        return f"{n_bytes:.0f}{SPACE}B"
    for unit in ("KB", "MB", "GB"):
        n_bytes /= 1000
        if n_bytes < 999.5 or unit == "GB":
            break
    return f"{number(n_bytes)}{SPACE}{unit}"


def milliseconds(value: float | None) -> str:
    return MISSING if value is None else f"{number(value)}{SPACE}ms"


def seconds(value: float | None) -> str:
    """A duration as a person says it: 8 s, 2 min 5 s, 1 h 12 min."""
    if value is None:
        return MISSING
    whole = round(value)
    if whole < 60:
        return f"{max(whole, 1)}{SPACE}s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}{SPACE}min" + (f" {rest}{SPACE}s" if rest and minutes < 10 else "")
    return f"{minutes // 60}{SPACE}h {minutes % 60}{SPACE}min"


def percent(fraction: float | None, decimals: int = 1) -> str:
    return MISSING if fraction is None else f"{fixed(100 * fraction, decimals)}{SPACE}%"


def points(value: float | None, decimals: int = 1) -> str:
    """A signed difference of percentages."""
    if value is None:
        return MISSING
    text = fixed(value, decimals, signed=True)
    return f"{text}{SPACE}point" + ("" if text.lstrip("+" + MINUS) in ("1", "1.0") else "s")


def decibels(value: float | None) -> str:
    return MISSING if value is None else f"{fixed(value, 1)}{SPACE}dB"


def times(ratio: float | None) -> str:
    return MISSING if ratio is None else f"{number(ratio, 2 if ratio < 10 else 3)}×"


def smaller(ratio: float | None) -> str:
    """float bytes ÷ bytes in words."""
    return _ratio_words(ratio, "smaller", "larger", "same size")


def faster(ratio: float | None) -> str:
    """float latency ÷ latency in words."""
    return _ratio_words(ratio, "faster", "slower", "same speed")


def _ratio_words(ratio: float | None, above: str, below: str, equal: str) -> str:
    if ratio is None:
        return MISSING
    if EVEN[0] < ratio < EVEN[1]:
        return equal
    return f"{times(ratio)} {above}" if ratio > 1 else f"{times(1 / ratio)} {below}"


def interval(bounds: Iterable[float] | None, write: Callable[[float], str]) -> str:
    return MISSING if bounds is None else f"[{', '.join(map(write, bounds))}]"


def difference(value: float | None) -> str:
    """A signed difference in points, without the word: +0.08."""
    return fixed(value, 2, signed=True)


def accuracy(quality: Run, decimals: int = 1) -> str:
    """Top-1 with half the width of its 95 % interval: 91.2 % ± 0.6."""
    if quality.get("top1") is None:
        return MISSING
    low, high = quality["top1_ci95"]
    return f"{percent(quality['top1'], decimals)} ± {fixed(50 * (high - low), decimals)}"


def moment(epoch: float | None) -> str:
    """A local date and time: 21 Nov 2026, 04:23."""
    return MISSING if epoch is None else f"{datetime.fromtimestamp(epoch):%-d %b %Y, %H:%M}"


def day(epoch: float | None) -> str:
    return MISSING if epoch is None else f"{datetime.fromtimestamp(epoch):%-d %B %Y}"


# ── verdicts ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


MORE_ACCURATE, LESS_ACCURATE = Verdict("more accurate", Tone.BETTER), Verdict("less accurate", Tone.WORSE)
SAME_ACCURACY = Verdict("within noise", Tone.NEUTRAL)
FASTER, SLOWER = Verdict("faster", Tone.BETTER), Verdict("slower", Tone.WORSE)
SAME_SPEED = Verdict("no measurable difference", Tone.NEUTRAL)


def accuracy_verdict(quality: Run | None) -> Verdict | None:
    """Whether accuracy changed, judged by the paired interval of the difference; None without labels or a baseline."""
    if not quality or quality.get("drop_pp") is None:
        return None
    if quality["within_noise"]:
        return SAME_ACCURACY
    return LESS_ACCURATE if quality["drop_pp"] > 0 else MORE_ACCURATE


def speed_verdict(latency: Run | None) -> Verdict | None:
    """Whether speed changed, judged by the interval of the ratio to float; None when it was not measured."""
    words = {"faster": FASTER, "slower": SLOWER, "no_measurable_difference": SAME_SPEED}
    return words.get(latency.get("verdict") or "") if latency else None


def why_missing(run: Run, section: str) -> str:
    """Why a section of a run is absent, in a few words."""
    reason = str(run.get(f"{section}_why_not") or "").rstrip(".")
    if reason:
        return reason[0].upper() + reason[1:]
    return "Not measured" if run.get("status") == "done" else f"The run is {run.get('status')}"


# ── names ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────

_TECHNIQUES = {
    "float32": "Float32",
    "dynamic_wi8": "Dynamic int8",
    "static_wi8_ai8": "Full int8",
    "static_wi8_ai16": "16×8",
    "float16": "Float16",
    "bfloat16": "Bfloat16",
    "weight_only_wi8": "Weight-only int8",
}
_MODES = {
    Mode.DYNAMIC: "Dynamic",
    Mode.STATIC: "Static",
    Mode.WEIGHT_ONLY: "Weight-only",
    Mode.HYBRID: "Hybrid",
    Mode.QAT: "QAT",
    Mode.BINARY: "Binary",
    Mode.TERNARY: "Ternary",
    Mode.MIXED: "Mixed precision",
}


def technique_name(code: str) -> str:
    """The short name of a technique: "Full int8"; a code that no table knows is read by its grammar, or shown as it is."""
    if code in _TECHNIQUES:
        return _TECHNIQUES[code]
    try:
        technique = Technique.parse(code)
    except UnknownName:
        return code
    parts = [_MODES.get(technique.mode, technique.mode.value)]
    parts += [f"w{technique.weight_bits}"] if technique.weight_bits else []
    parts += [f"a{technique.activation_bits}"] if technique.activation_bits else []
    parts += [f"group {technique.group_size}"] if technique.group_size else []
    return " ".join(parts)


def backend_name(backend: str) -> str:
    return BACKEND_TITLES[Backend(backend)]


def run_name(run: Run) -> str:
    """Backend and technique: "TFLite · Full int8"."""
    return f"{backend_name(run['backend'])} · {technique_name(run['technique'])}"


def run_names(runs: Iterable[Run]) -> dict[str, str]:
    """A name for each run id; runs of one name are told apart by what differs: model, options, date or id."""
    runs = list(runs)
    names = {run["run_id"]: run_name(run) for run in runs}
    for part in (_model, _options, _moment, _id):
        for name, count in Counter(names.values()).items():
            alike = [run for run in runs if names[run["run_id"]] == name]
            if count > 1 and len({part(run) for run in alike}) > 1:
                names |= {run["run_id"]: f"{name} · {part(run)}" for run in alike if part(run)}
    return names


def _model(run: Run) -> str:
    return str(run["model"])


def _options(run: Run) -> str:
    words = [f"{name.replace('_', ' ')} {str(value).lower()}" for name, value in (run.get("options") or {}).items()]
    words += [f"{layer} float" for layer in run.get("keep_float") or ()]
    return ", ".join(words)


def _moment(run: Run) -> str:
    return moment(run["created"]) if run.get("created") else ""


def _id(run: Run) -> str:
    return str(run["run_id"])
