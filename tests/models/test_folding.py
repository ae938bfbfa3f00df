"""Folded weights are those that backends quantize: the scales of the bundled runs say what they saw."""

import json
from pathlib import Path

import numpy as np
import pytest

from models import zoo
from models.folding import folded_weights

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("model_id", ["fashion-cnn", "fashion-resnet"])
def test_the_range_of_every_channel_is_that_which_a_backend_quantized(model_id: str) -> None:
    run = json.loads((EXAMPLES / f"{model_id}--tflite--static_wi8_ai8" / "run.json").read_text(encoding="utf-8"))
    weights = folded_weights(zoo.load(model_id))
    compared = [layer for layer in run["layers"] if layer["weight"]["granularity"] == "per_channel"]
    assert len(compared) > 1
    for layer in compared:
        weight = weights[layer["name"]]
        reach = np.abs(weight.reshape(len(weight), -1)).max(axis=1)
        np.testing.assert_allclose(np.array(layer["weight"]["scale"]) * 127, reach, rtol=1e-5)


def test_a_layer_without_batch_norm_keeps_its_weight() -> None:
    model = zoo.load("mnist-mlp")
    for name, weight in folded_weights(model).items():
        assert (weight == model.weights[f"{name}.weight"]).all()
