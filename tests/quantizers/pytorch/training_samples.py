"""Labelled samples for tests that train."""

from __future__ import annotations

import numpy as np

from models import datasets
from models.float_model import FloatModel
from quantizers.adapter import Batch, Training


def training_of(model: FloatModel, n: int = 320) -> Training:
    data = datasets.load(model.info.datasets[0])
    train, held_out = data.split("train").take(n), data.split("calibration").take(200)
    return Training(model.info.preprocess(train.x), train.y, model.info.preprocess(held_out.x), held_out.y)


def simple_training(samples: Batch, classes: int) -> Training:
    """Labels that a network can learn: the order of the samples' means."""
    order = samples.reshape(len(samples), -1).mean(axis=1).argsort().argsort()
    labels = (order * classes // len(samples)).astype(np.int64)
    return Training(samples, labels, samples, labels)
