"""What is possible, as data: backend × technique → options, or the reason why not. Pages, CLI and worker ask this one table."""

from __future__ import annotations

from collections.abc import Mapping

from quantizers.capability import BACKEND_TITLES, TECHNIQUE_TITLES, Capability, Option
from quantizers.errors import UnknownName, Unsupported
from quantizers.onnxruntime import capabilities as onnxruntime
from quantizers.pytorch import capabilities as pytorch
from quantizers.schema import Backend, Mode, Options, OptionValue, Technique
from quantizers.tflite import capabilities as tflite

__all__ = [
    "BACKENDS",
    "BACKEND_TITLES",
    "CAPABILITIES",
    "MIXED",
    "TECHNIQUE_TITLES",
    "Capability",
    "Option",
    "capability",
    "check_options",
    "needs_calibration",
    "parse_backend",
    "require",
    "require_keep_float",
    "resolve_options",
    "techniques",
]

_ROWS: Mapping[Backend, tuple[Capability, ...]] = {
    Backend.PYTORCH: pytorch.TECHNIQUES,
    Backend.TFLITE: tflite.TECHNIQUES,
    Backend.ONNXRUNTIME: onnxruntime.TECHNIQUES,
}
BACKENDS: tuple[Backend, ...] = tuple(_ROWS)
CAPABILITIES: Mapping[tuple[Backend, str], Capability] = {
    (cell.backend, cell.code): cell for row in _ROWS.values() for cell in row
}
MIXED: Mapping[Backend, Capability] = {
    cell.backend: cell for cell in (pytorch.MIXED, tflite.MIXED, onnxruntime.MIXED) if cell is not None
}


def techniques(backend: Backend) -> tuple[Capability, ...]:
    """Every technique of `backend`, possible or not, float baseline first."""
    return _ROWS[backend]


def parse_backend(name: str) -> Backend:
    """The backend called `name`.

    Raises:
        UnknownName: none of the built backends is called so.
    """
    if name not in BACKENDS:
        raise UnknownName.of("backend", name, BACKENDS)
    return Backend(name)


def capability(backend: Backend, technique: Technique) -> Capability:
    """The cell of `technique` on `backend`.

    Raises:
        UnknownName: no backend has such a technique.
        Unsupported: another backend has it, this one does not.
    """
    if technique.mode is Mode.MIXED and backend in MIXED:
        return MIXED[backend]
    cell = CAPABILITIES.get((backend, technique.code))
    if cell is None:
        known = [c.code for c in techniques(backend)]
        if technique.code in TECHNIQUE_TITLES:
            raise Unsupported(f"{technique.code} is not offered on {BACKEND_TITLES[backend]}.", f"It has: {', '.join(known)}.")
        raise UnknownName.of(f"technique of {BACKEND_TITLES[backend]}", technique.code, known)
    return cell


def require(backend: Backend, technique: Technique) -> Capability:
    """The cell of `technique` on `backend`, which must be possible.

    Raises:
        UnknownName: no backend has such a technique.
        Unsupported: this backend cannot do it; the message is the reason.
    """
    cell = capability(backend, technique)
    if cell.why_not:
        raise Unsupported(f"{cell.title} is impossible on {BACKEND_TITLES[backend]}: {cell.why_not}")
    return cell


def require_keep_float(backend: Backend, technique: Technique) -> None:
    """Makes sure that `technique` can leave single layers in float.

    Raises:
        Unsupported: it quantizes a whole model.
    """
    cell = capability(backend, technique)
    if cell.keep_float_why_not:
        what = f"{cell.title} cannot keep layers float on {BACKEND_TITLES[backend]}"
        raise Unsupported(f"{what}: {cell.keep_float_why_not}")


def resolve_options(backend: Backend, technique: Technique, given: Mapping[str, str | OptionValue]) -> Options:
    """The complete options of a technique: what was given where it applies, defaults elsewhere.

    Options that this technique does not have are ignored here, because one set serves several techniques; `check_options`
    refuses those that fit none.

    Raises:
        UnknownName: a value is none of the option's choices.
    """
    cell = capability(backend, technique)
    return {o.name: _choose(o, given[o.name]) if o.name in given else o.default for o in cell.options}


def needs_calibration(technique: Technique, options: Options) -> bool:
    """Whether a technique looks at samples: to find ranges of activations, or to round for the outputs of its layers."""
    return technique.needs_calibration or options.get("rounding", "nearest") != "nearest"


def check_options(cells: list[Capability], given: Mapping[str, str | OptionValue]) -> None:
    """Refuses options that none of `cells` knows.

    Raises:
        UnknownName: an option fits no technique.
    """
    known = {option.name for cell in cells for option in cell.options}
    for name in given:
        if name not in known:
            raise UnknownName.of("option of these techniques", name, known)


def _choose(option: Option, value: str | OptionValue) -> OptionValue:
    text = str(value).lower()
    for choice in option.choices:
        if str(choice).lower() == text:
            return choice
    raise UnknownName.of(f"value of {option.name}", str(value), [str(choice).lower() for choice in option.choices])
