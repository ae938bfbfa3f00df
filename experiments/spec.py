"""What to run: an ExperimentSpec is one press of Run; `plan` splits it into trials, and says which of them are impossible.

Specs are stored as JSON with a schema version; `from_dict` reads every version ever written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from models import catalogue, datasets
from models.datasets import Split
from models.float_model import ModelInfo
from quantizers.capabilities import Capability, check_options, require, require_keep_float, resolve_options
from quantizers.errors import BadData, InputError, UnknownName, Unsupported
from quantizers.schema import Backend, Options, OptionValue, Technique

SCHEMA = 1
DEFAULT_CALIBRATION_SAMPLES = 200
MAX_THREADS = 256


class LatencyProtocol(StrEnum):
    """How long latency is measured; the figures are in `benchmarks.protocol`."""

    QUICK = "quick"
    STANDARD = "standard"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Measurement:
    """The conditions every trial of an experiment shares.

    Before planning, `calibration_samples` None means 200 or all there are, and `eval_samples` None the whole test split; a
    planned trial has the numbers.
    """

    data: str
    calibration_samples: int | None = None
    eval_samples: int | None = None
    seed: int = 0
    threads: int = 1
    latency: LatencyProtocol = LatencyProtocol.QUICK

    def __post_init__(self) -> None:
        for name, value in (("calibration", self.calibration_samples), ("evaluation", self.eval_samples)):
            if value is not None and value < 1:
                raise BadData(f"{value} {name} samples were asked for.", "Ask for at least 1.")
        if not 1 <= self.threads <= MAX_THREADS:
            raise InputError(f"{self.threads} threads were asked for.", f"Give a number from 1 to {MAX_THREADS}.")


@dataclass(frozen=True, slots=True)
class TrialSpec:
    """One model × technique × data × seed, with every choice resolved."""

    model: str
    backend: Backend
    technique: str
    measurement: Measurement
    options: Options = field(default_factory=dict)
    keep_float: tuple[str, ...] = ()
    schema: int = SCHEMA

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON: equal specs are equal trials."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def float_baseline(self) -> TrialSpec:
        """The same trial with nothing quantized: what every figure is compared with."""
        technique = Technique.parse("float32")
        return replace(self, technique=technique.code, options=resolve_options(self.backend, technique, {}), keep_float=())

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> TrialSpec:
        """Reads a stored spec.

        Raises:
            InputError: it was written by a newer version of this program.
        """
        if stored["schema"] > SCHEMA:
            raise InputError(
                f"This run was stored with schema {stored['schema']}; this program reads up to {SCHEMA}.", "Update."
            )
        conditions = dict(stored["measurement"])
        conditions["latency"] = LatencyProtocol(conditions["latency"])
        return cls(
            model=stored["model"],
            backend=Backend(stored["backend"]),
            technique=stored["technique"],
            measurement=Measurement(**conditions),
            options=dict(stored["options"]),
            keep_float=tuple(stored["keep_float"]),
        )


@dataclass(frozen=True, slots=True)
class ExperimentSpec:
    """One press of Run. `techniques` are (backend, code) pairs; `options` apply wherever a technique has them."""

    model: str
    techniques: tuple[tuple[Backend, str], ...]
    measurement: Measurement
    options: Mapping[str, str | OptionValue] = field(default_factory=dict)
    keep_float: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Impossible:
    """A technique that was asked for and cannot be done, with the reason."""

    backend: Backend
    technique: str
    error: InputError


@dataclass(frozen=True, slots=True)
class Plan:
    trials: tuple[TrialSpec, ...]
    impossible: tuple[Impossible, ...]


def default_data(model_id: str) -> str:
    """The dataset a model is measured on when none is named."""
    return model_info(model_id).datasets[0]


def model_info(model_id: str) -> ModelInfo:
    """What the catalogue says of a model that can be used.

    Raises:
        UnknownName: there is none.
        Unsupported: it is there and cannot be used on this machine.
    """
    return catalogue.info(model_id)


def plan(spec: ExperimentSpec) -> Plan:
    """Splits an experiment into trials.

    Raises:
        InputError: unknown names, data that does not fit the model, options that fit no technique, or no technique that
            is possible (then with the first one's reason).
    """
    model = model_info(spec.model)
    data = _fitting_data(spec.measurement.data, model)
    measurement = _resolve(spec.measurement, data)
    if not spec.techniques:
        raise InputError("No technique was chosen.", "Choose at least one.")
    _check_layers(spec)
    trials: list[TrialSpec] = []
    impossible: list[Impossible] = []
    cells: list[Capability] = []
    for backend, technique in dict.fromkeys((backend, Technique.parse(code)) for backend, code in spec.techniques):
        try:
            if refusal := catalogue.refusal(model, backend, technique):
                raise refusal
            _require_trainable(technique, data)
            cells.append(require(backend, technique))
            if spec.keep_float:
                require_keep_float(backend, technique)
        except Unsupported as reason:
            impossible.append(Impossible(backend, technique.code, reason))
            continue
        options = resolve_options(backend, technique, spec.options)
        trials.append(TrialSpec(spec.model, backend, technique.code, measurement, options, spec.keep_float))
    if not trials:
        raise impossible[0].error
    check_options(cells, spec.options)
    return Plan(tuple(trials), tuple(impossible))


@dataclass(frozen=True, slots=True)
class _Data:
    """What planning has to know of a dataset: its name, the samples in each split, and whether they are labelled."""

    id: str
    sizes: Mapping[str, int]
    labelled: bool


def _fitting_data(data: str, model: ModelInfo) -> _Data:
    """Data that exists and fits `model`; bundled data is not loaded for it, a person's own is."""
    described = {entry.id: entry for entry in datasets.catalogue()}.get(data)
    if described is None or not described.splits:
        loaded = datasets.load(data, model)
        for split in loaded.rows:
            datasets.check_fits(loaded.split(split), model)
        return _Data(data, loaded.info.splits, loaded.y is not None)
    if described.why_not:
        raise Unsupported(f"{described.title} cannot be used here: {described.why_not}")
    if described.shape is not None and described.shape != model.input_shape:
        raise BadData(
            f"{described.title} has samples of {_shape(described.shape)}; {model.title} takes {_shape(model.input_shape)}.",
            f"Data that fits: {', '.join(model.datasets)}.",
        )
    return _Data(data, described.splits, described.labels is not None)


def _resolve(measurement: Measurement, data: _Data) -> Measurement:
    """The measurement with its sample counts filled in, on data that is large enough."""
    calibration, evaluation = data.sizes[Split.CALIBRATION], data.sizes[Split.TEST]
    resolved = replace(
        measurement,
        calibration_samples=measurement.calibration_samples or min(DEFAULT_CALIBRATION_SAMPLES, calibration),
        eval_samples=measurement.eval_samples or evaluation,
    )
    for name, asked, there in (
        ("calibration", resolved.calibration_samples, calibration),
        ("evaluation", resolved.eval_samples, evaluation),
    ):
        if asked is not None and asked > there:
            raise BadData(f"{asked:,} {name} samples were asked for, but {data.id} has {there:,}.", "Ask for fewer.")
    return resolved


def _require_trainable(technique: Technique, data: _Data) -> None:
    """Refuses to train on data without labels, or on the very samples that accuracy is then measured on."""
    if not technique.needs_training or (data.labelled and Split.TRAIN in data.sizes):
        return
    lack = "labels" if not data.labelled else "train split apart from the samples it is tested on"
    raise Unsupported(f"{technique.code} trains the model, and {data.id} has no {lack}.", "Choose a dataset to train on.")


def _shape(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


def _check_layers(spec: ExperimentSpec) -> None:
    if not spec.keep_float:
        return
    known = catalogue.layer_names(spec.model)
    for layer in spec.keep_float:
        if layer not in known:
            raise UnknownName.of(f"layer of {spec.model}", layer, known)
