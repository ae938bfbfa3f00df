"""Models of the zoo, quantized once per session and read by many tests."""

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
from quantizers.capabilities import needs_calibration
from quantizers.onnxruntime.adapter import OnnxRuntimeAdapter
from quantizers.onnxruntime.model import OnnxModel
from quantizers.schema import OptionValue, Technique

CALIBRATION_SAMPLES = 100


@dataclass(frozen=True, eq=False)
class Subject:
    """A float model with preprocessed calibration and test samples; labels where the dataset has them."""

    model: FloatModel
    calibration: Batch
    x: Batch
    y: NDArray[np.int64] | None


@pytest.fixture(scope="session")
def subject() -> Callable[[str], Subject]:
    @cache
    def load(model_id: str) -> Subject:
        model = zoo.load(model_id)
        data = datasets.load(model.info.datasets[0])
        calibration, test = data.split("calibration"), data.split("test")
        x = model.info.preprocess(test.x[:1000])
        labels = None if test.y is None else test.y[:1000]
        return Subject(model, model.info.preprocess(calibration.x[:CALIBRATION_SAMPLES]), x, labels)

    return load


@pytest.fixture(scope="session")
def quantized(subject: Callable[[str], Subject], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., OnnxModel]:
    @cache
    def quantize(model_id: str, code: str, keep_float: tuple[str, ...] = (), **options: OptionValue) -> OnnxModel:
        technique = Technique.parse(code)
        calibration = subject(model_id).calibration if needs_calibration(technique, options) else None
        request = Request(technique, options, calibration, tmp_path_factory.mktemp("artefact"), keep_float)
        return OnnxRuntimeAdapter().quantize(subject(model_id).model, request, lambda fraction, what: None)

    return quantize


@pytest.fixture
def request_for(tmp_path: Path) -> Callable[..., Request]:
    def build(code: str, calibration: Batch | None = None, **others: object) -> Request:
        return Request(Technique.parse(code), others.pop("options", {}), calibration, tmp_path, **others)

    return build
