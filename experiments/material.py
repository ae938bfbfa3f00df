"""What a trial works on: a float model and preprocessed samples of the splits that its technique may see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.spec import TrialSpec
from models import catalogue, datasets
from models.datasets import LoadedDataset, Split
from models.float_model import FloatModel
from quantizers.adapter import Batch, Training
from quantizers.schema import Technique


@dataclass(frozen=True, eq=False)
class Material:
    """A float model and its samples. `labels` is None for unlabelled data, `training` unless the technique needs training."""

    model: FloatModel
    calibration: Batch
    evaluation: Batch
    labels: NDArray[np.int64] | None
    training: Training | None
    dataset: dict[str, Any]


def load_material(spec: TrialSpec) -> Material:
    """Loads the model and the samples of a trial."""
    conditions = spec.measurement
    assert conditions.calibration_samples is not None, "a planned trial has its numbers"
    assert conditions.eval_samples is not None, "a planned trial has its numbers"
    model = catalogue.load(spec.model)
    data = datasets.load(conditions.data, model.info)
    calibration = data.split(Split.CALIBRATION).take(conditions.calibration_samples, conditions.seed)
    evaluation = data.split(Split.TEST).take(conditions.eval_samples, conditions.seed)
    for samples in (calibration, evaluation):
        datasets.check_fits(samples, model.info)
    needs_training = Technique.parse(spec.technique).needs_training
    return Material(
        model=model,
        calibration=model.info.preprocess(calibration.x),
        evaluation=model.info.preprocess(evaluation.x),
        labels=None if evaluation.y is None else model.info.targets(evaluation.y),
        training=_training(model, data) if needs_training else None,
        dataset={
            "id": conditions.data,
            "sha256": data.info.digest,
            "n_calibration": len(calibration),
            "n": len(evaluation),
            "calibration_indexes": calibration.indices.tolist(),
        },
    )


def _training(model: FloatModel, data: LoadedDataset) -> Training:
    """The train split to learn from, and the calibration split for the curve: the test split stays unseen until the end."""
    train, held_out = data.split(Split.TRAIN), data.split(Split.CALIBRATION)
    assert train.y is not None, "planning refuses to train without labels"
    assert held_out.y is not None, "planning refuses to train without labels"
    preprocess, targets = model.info.preprocess, model.info.targets
    return Training(preprocess(train.x), targets(train.y), preprocess(held_out.x), targets(held_out.y))
