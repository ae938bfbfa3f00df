"""Models of the zoo, converted once per session: a conversion costs seconds and is read by many tests."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models import datasets, zoo
from models.float_model import FloatModel
from quantizers.adapter import Batch, Request
from quantizers.capabilities import resolve_options
from quantizers.schema import Backend, OptionValue, Technique
from quantizers.tflite.adapter import TFLiteAdapter
from quantizers.tflite.model import TFLiteModel

CALIBRATION_SAMPLES = 50
TEST_SAMPLES = 500


@dataclass(frozen=True, eq=False)
class Subject:
    """A float model with preprocessed calibration and test samples; labels where the dataset has them."""

    model: FloatModel
    calibration: Batch
    x: Batch
    y: NDArray[np.int64] | None


Convert = Callable[..., TFLiteModel]


@pytest.fixture(scope="session")
def subject() -> Callable[[str], Subject]:
    @cache
    def load(model_id: str) -> Subject:
        model = zoo.load(model_id)
        data = datasets.load(model.info.datasets[0])
        calibration, test = data.split("calibration"), data.split("test")
        x = model.info.preprocess(test.x[:TEST_SAMPLES])
        labels = None if test.y is None else test.y[:TEST_SAMPLES]
        return Subject(model, model.info.preprocess(calibration.x[:CALIBRATION_SAMPLES]), x, labels)

    return load


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What trials of a model share: its float conversion."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="session")
def converted(subject: Callable[[str], Subject], shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Convert:
    @cache
    def convert(model_id: str, code: str, **given: OptionValue) -> TFLiteModel:
        technique = Technique.parse(code)
        request = Request(
            technique,
            resolve_options(Backend.TFLITE, technique, given),
            subject(model_id).calibration if technique.needs_calibration else None,
            tmp_path_factory.mktemp(f"{model_id}-{code}"),
            shared=shared,
        )
        return TFLiteAdapter().quantize(subject(model_id).model, request, lambda fraction, what: None)

    return convert


@pytest.fixture
def request_for(tmp_path: Path) -> Callable[..., Request]:
    def build(code: str, calibration: Batch | None = None, **others: object) -> Request:
        technique = Technique.parse(code)
        return Request(technique, resolve_options(Backend.TFLITE, technique, {}), calibration, tmp_path, **others)

    return build
