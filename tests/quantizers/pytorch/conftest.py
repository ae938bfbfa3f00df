"""Zoo models quantized once for all tests of the PyTorch backend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest
from training_samples import training_of

from models import datasets, zoo
from models.float_model import FloatModel
from quantizers.adapter import Batch, Epoch, QuantizedModel, Request
from quantizers.capabilities import resolve_options
from quantizers.pytorch.adapter import PyTorchAdapter
from quantizers.schema import Backend, Options, OptionValue, Technique


@dataclass(frozen=True)
class Case:
    float_model: FloatModel
    technique: Technique
    options: Options
    calibration: Batch
    test: Batch
    quantized: QuantizedModel
    heard: list[Epoch] = field(default_factory=list)


Quantize = Callable[..., Case]


@cache
def _data(model_id: str) -> tuple[FloatModel, Batch, Batch]:
    model = zoo.load(model_id)
    data = datasets.load(model.info.datasets[0])
    calibration, test = (
        model.info.preprocess(data.split(split).take(n).x) for split, n in (("calibration", 100), ("test", 256))
    )
    return model, calibration, test


@pytest.fixture(scope="session")
def quantize(tmp_path_factory: pytest.TempPathFactory) -> Quantize:
    """`quantize("mnist-cnn", "static_wi8_ai8", per_channel=False)`; the same arguments give the same case."""

    @cache
    def run(model_id: str, code: str, keep_float: tuple[str, ...] = (), **options: OptionValue) -> Case:
        model, calibration, test = _data(model_id)
        technique = Technique.parse(code)
        complete = resolve_options(Backend.PYTORCH, technique, options)
        workdir: Path = tmp_path_factory.mktemp(f"{model_id}-{code}")
        heard: list[Epoch] = []
        request = Request(
            technique,
            complete,
            calibration if technique.needs_calibration else None,
            workdir,
            keep_float,
            training=training_of(model) if technique.needs_training else None,
            on_epoch=heard.append,
        )
        quantized = PyTorchAdapter().quantize(model, request, lambda fraction, words: None)
        return Case(model, technique, complete, calibration, test, quantized, heard)

    return run
