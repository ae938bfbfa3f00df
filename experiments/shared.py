"""The float side of an experiment, done once: its trials of one backend all read the same artefact, logits and activations.

What is kept is exactly what the trial itself would have computed, so a figure does not depend on whether it was shared.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from experiments.material import Material
from experiments.spec import TrialSpec
from quantizers import registry
from quantizers.adapter import Batch, Epoch, QuantizedModel, Report, Request, not_run
from quantizers.capabilities import needs_calibration
from quantizers.schema import Technique
from quantizers.shared import once

FIDELITY_SAMPLES = 256
"""Samples that per-layer errors and activation histograms are measured on; tens are enough for errors in dB."""
FIDELITY_BATCH = 32
MOST_KEPT_BYTES = 256 << 20
"""Activations beyond this are not kept: reading them again would cost the disk what running the model costs the processor."""


class Baseline:
    """The float32 model of a trial's backend: its artefact and what it answers, from `shared` or computed into it.

    `path` is the artefact, `logits` [N, classes] are those of the evaluation samples; None where the model cannot be run.
    """

    def __init__(self, spec: TrialSpec, material: Material, workdir: Path, shared: Path, report: Report) -> None:
        self._spec, self._material = spec.float_baseline(), material
        self._workdir, self._shared, self._report = workdir, shared, report
        self._entry = once(shared, "float", self._depends_on(), self._compute)
        (self.path,) = (self._entry / "artefact").iterdir()
        logits = self._entry / "logits.npy"
        self.logits: Batch | None = np.load(logits) if logits.exists() else None

    @cached_property
    def model(self) -> QuantizedModel:
        """The model itself; built in this process when it is first asked for."""
        return quantize(self._spec, self._material, self._workdir / "float", self._shared, self._report)

    def activations(self) -> Iterator[tuple[Batch, Mapping[str, Batch]]]:
        """The samples of fidelity in batches, each with the outputs of the float layers by name; none if it cannot be run."""
        for index, batch in enumerate(self._batches() if self.logits is not None else ()):
            kept = _activations_file(self._entry, index)
            yield batch, _load(kept) if kept.exists() else self.model.activations(batch)

    def _batches(self) -> Iterator[Batch]:
        samples = self._material.evaluation[:FIDELITY_SAMPLES]
        for start in range(0, len(samples), FIDELITY_BATCH):
            yield samples[start : start + FIDELITY_BATCH]

    def _depends_on(self) -> dict[str, Any]:
        conditions = self._spec.measurement
        return {
            "model": self._material.model.digest,
            "backend": self._spec.backend.value,
            "options": dict(self._spec.options),
            "versions": dict(registry.get(self._spec.backend).versions()),
            "data": self._material.dataset["sha256"],
            "evaluation": [conditions.eval_samples, conditions.seed],
        }

    def _compute(self, folder: Path) -> None:
        (folder / "artefact").mkdir()
        shutil.copy(self.model.path, folder / "artefact")
        if not_run(self.model):
            return
        np.save(folder / "logits.npy", self.model.predict(self._material.evaluation))
        self._keep_activations(folder)

    def _keep_activations(self, folder: Path) -> None:
        batches = list(self._batches())
        for index, batch in enumerate(batches):
            outputs = self.model.activations(batch)
            if sum(values.nbytes for values in outputs.values()) * len(batches) > MOST_KEPT_BYTES:
                return
            _save(outputs, _activations_file(folder, index))


def quantize(
    spec: TrialSpec,
    material: Material,
    folder: Path,
    shared: Path,
    report: Report,
    on_epoch: Callable[[Epoch], None] = lambda _epoch: None,
) -> QuantizedModel:
    """Quantizes the model of a trial into a new `folder`."""
    folder.mkdir()
    technique = Technique.parse(spec.technique)
    request = Request(
        technique,
        spec.options,
        material.calibration if needs_calibration(technique, spec.options) else None,
        folder,
        spec.keep_float,
        spec.measurement.seed,
        shared,
        material.training,
        on_epoch,
    )
    return registry.get(spec.backend).quantize(material.model, request, report)


def _activations_file(folder: Path, index: int) -> Path:
    return folder / f"activations-{index:03}.safetensors"


def _save(tensors: Mapping[str, Batch], path: Path) -> None:
    """Keeps the order in memory, too, as backends have views of other layouts: the last bits of sums depend on it."""
    from safetensors.numpy import save_file

    dense = {name: tensor.copy(order="K") for name, tensor in tensors.items()}
    layouts = {name: json.dumps([tensor.shape, tensor.strides]) for name, tensor in dense.items()}
    save_file({name: tensor.ravel(order="K") for name, tensor in dense.items()}, path, metadata=layouts)


def _load(path: Path) -> dict[str, Batch]:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        layouts = {name: json.loads(layout) for name, layout in file.metadata().items()}
        return {
            name: np.ndarray(shape, np.float32, buffer=file.get_tensor(name), strides=strides)
            for name, (shape, strides) in layouts.items()
        }
