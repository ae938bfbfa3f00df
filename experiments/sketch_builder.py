"""The process that sketches a model's weights: `python -m experiments.sketch_builder MODEL`."""

from __future__ import annotations

import sys
import time
import traceback

from filelock import Timeout

from experiments import sketches
from experiments.jobs.isolation import hold_leash
from quantizers import sketch_file
from quantizers.errors import QuantScopeError

REPORT_EVERY_SECONDS = 0.2
READING = (0.05, 0.9)
"""Shares of the work that are over when the weights are loaded, and when they are read."""


def main(model_id: str) -> None:
    """Builds and keeps a model's sketches, unless another process already does; says how far it is, and how it failed."""
    hold_leash(to_thread=False)
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
    from models import zoo
    from models.folding import folded_weights
    from quantizers.sketch_build import build_sketches

    sketches.report(model_id, sketches.Progress(0.0, "Loading the weights"))
    made_of = sketches.made_of(model_id)
    model = zoo.load(model_id)
    last = 0.0

    def report(fraction: float, stage: str) -> None:
        nonlocal last
        if time.monotonic() - last > REPORT_EVERY_SECONDS:
            last = time.monotonic()
            sketches.report(model_id, sketches.Progress(READING[0] + (READING[1] - READING[0]) * fraction, stage))

    built = build_sketches(folded_weights(model), report=report)
    sketches.report(model_id, sketches.Progress(READING[1], "Keeping the sketches"))
    file = sketches.folder() / f"{model.digest}.npz"
    sketch_file.write(file, built)
    sketches.keep(model_id, model.info.title, file, made_of)


if __name__ == "__main__":
    main(sys.argv[1])
