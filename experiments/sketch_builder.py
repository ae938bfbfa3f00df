"""The process that sketches a model's weights: `python -m experiments.sketch_builder MODEL`."""

from __future__ import annotations

import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from filelock import Timeout
from numpy.typing import NDArray

from experiments import sketches
from experiments.jobs import isolation
from experiments.jobs.settings import Settings
from models.float_model import FloatModel
from quantizers import registry, sketch_file
from quantizers.adapter import Request
from quantizers.capabilities import resolve_options
from quantizers.errors import QuantScopeError
from quantizers.schema import Backend, Technique

PER_CHANNEL = "weight_only_wi8"

REPORT_EVERY_SECONDS = 0.2
READING = (0.05, 0.9)
"""Shares of the work that are over when the weights are loaded, and when they are read."""


def main(model_id: str) -> None:
    """Builds and keeps a model's sketches, unless another process already does; says how far it is, and how it failed."""
    isolation.hold_leash(to_thread=False)
    try:
        with sketches.lock(model_id):
            try:
                _build(model_id)
            except QuantScopeError as error:
                traceback.print_exc()
                sketches.report(model_id, sketches.Progress(0.0, "", error.message, error.hint))
            except Exception as error:
                traceback.print_exc()
                what = f"The weights could not be read: {type(error).__name__}: {error}"
                sketches.report(
                    model_id, sketches.Progress(0.0, "", what[:300], "The log beside the sketches holds the details.")
                )
            else:
                sketches.report(model_id, None)
    except Timeout:
        return


def _build(model_id: str) -> None:
    from models import catalogue
    from quantizers.sketch_build import build_sketches

    isolation.limit_memory(Settings.read().memory_bytes)
    sketches.report(model_id, sketches.Progress(0.0, "Loading the weights"))
    made_of = sketches.made_of(model_id)
    model = catalogue.load(model_id)
    last = 0.0

    def report(fraction: float, stage: str) -> None:
        nonlocal last
        if time.monotonic() - last > REPORT_EVERY_SECONDS:
            last = time.monotonic()
            sketches.report(model_id, sketches.Progress(READING[0] + (READING[1] - READING[0]) * fraction, stage))

    built = build_sketches(_weights(model), report=report)
    sketches.report(model_id, sketches.Progress(READING[1], "Keeping the sketches"))
    file = sketches.folder() / f"{model.digest}.npz"
    sketch_file.write(file, built)
    sketches.keep(model_id, model.info.title, file, made_of)


def _weights(model: FloatModel) -> Mapping[str, NDArray[np.float32]]:
    """Every layer's weight as quantizers see it, output channels along the first axis.

    Raises:
        Unsupported: no backend reads the model.
    """
    from models.float_model import ZooModel
    from models.folding import folded_weights

    return folded_weights(model) if isinstance(model, ZooModel) else _weights_of_a_backend(model)


def _weights_of_a_backend(model: FloatModel) -> Mapping[str, NDArray[np.float32]]:
    """As the first backend that takes the model says when it quantizes them, which tells their channels' axis too."""
    from models import catalogue

    technique = Technique.parse(PER_CHANNEL)
    refusals = {backend: catalogue.refusal(model.info, backend, technique) for backend in Backend}
    backend = next((backend for backend, refusal in refusals.items() if refusal is None), None)
    if backend is None:
        raise next(refusal for refusal in refusals.values() if refusal)
    options = resolve_options(backend, technique, {})
    with tempfile.TemporaryDirectory() as workdir:
        request = Request(technique, options, None, Path(workdir))
        layers = registry.get(backend).quantize(model, request, lambda _fraction, _words: None).layers()
    weights = {}
    for layer in layers:
        if layer.weight.reference is not None:
            axis = layer.weight.params.axis if layer.weight.params else None
            weights[layer.name] = np.moveaxis(layer.weight.reference, axis or 0, 0)
    return weights


if __name__ == "__main__":
    main(sys.argv[1])
