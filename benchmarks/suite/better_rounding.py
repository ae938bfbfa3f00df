"""What each improvement of post-training quantization gains at 4-bit weights, on PyTorch, over three calibration sets.

Output SQNR is against the float model's logits; its gain over plain rounding has a paired t-interval over the seeds. Accuracy
is on the same test samples. Training with rounding is compared with its control: the same epochs in float, then quantized.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.suite.figure import Figure, Figures
from models import datasets, zoo
from models.float_model import FloatModel
from quantizers import registry
from quantizers.adapter import Batch, QuantizedModel, Request, Training
from quantizers.capabilities import resolve_options
from quantizers.numerics import tensor_error
from quantizers.schema import Backend, OptionValue, Technique

MODEL = "fashion-resnet"
STATIC, TRAINED = Technique.parse("static_wi4_ai8"), Technique.parse("qat_wi4_ai8")
SEEDS = (0, 1, 2)
CALIBRATION_SAMPLES, TEST_SAMPLES = 200, 2000
IMPROVEMENTS: Mapping[str, Mapping[str, OptionValue]] = {
    "equalize": {"equalize": True},
    "bias_correction": {"bias_correction": True},
    "learned": {"rounding": "learned"},
    "compensated": {"rounding": "compensated"},
    "range_hqq": {"weight_range": "hqq"},
    "range_minmax": {"weight_range": "minmax"},
    "all": {"equalize": True, "rounding": "learned", "bias_correction": True},
}
T_95 = 4.303
"""97.5th percentile of Student's t with as many degrees of freedom as there are seeds, less one."""


@dataclass(frozen=True, eq=False)
class _Bench:
    """A float model, samples to judge on, and its logits for them; artefacts lie in `folder`."""

    folder: Path
    model: FloatModel
    x: Batch
    labels: NDArray[np.int64]
    logits: Batch

    @classmethod
    def load(cls, folder: Path) -> _Bench:
        model = zoo.load(MODEL)
        test = datasets.load(model.info.datasets[0]).split("test").take(TEST_SAMPLES)
        assert test.y is not None
        x = model.info.preprocess(test.x)
        request = Request(Technique.parse("float32"), {"lowered": True}, None, folder)
        baseline = registry.get(Backend.PYTORCH).quantize(model, request, lambda _done, _words: None)
        return cls(folder, model, x, test.y, baseline.predict(x))

    def quantize(self, technique: Technique, options: Mapping[str, OptionValue], seed: int) -> QuantizedModel:
        data = datasets.load(self.model.info.datasets[0])
        preprocess = self.model.info.preprocess
        calibration, train = data.split("calibration"), data.split("train")
        training = None
        if technique.needs_training:
            assert train.y is not None
            assert calibration.y is not None
            training = Training(preprocess(train.x), train.y, preprocess(calibration.x), calibration.y)
        request = Request(
            technique,
            resolve_options(Backend.PYTORCH, technique, options),
            preprocess(calibration.take(CALIBRATION_SAMPLES, seed).x),
            Path(tempfile.mkdtemp(dir=self.folder)),
            seed=seed,
            training=training,
        )
        return registry.get(Backend.PYTORCH).quantize(self.model, request, lambda _done, _words: None)

    def judge(self, quantized: QuantizedModel) -> tuple[float, float]:
        """Output SQNR in dB and top-1 accuracy in %."""
        logits = quantized.predict(self.x)
        return tensor_error(self.logits, logits).sqnr_db or np.inf, 100 * float((logits.argmax(1) == self.labels).mean())


def run_rounding() -> Figures:
    """Every improvement against plain rounding on the same calibration samples."""
    with _folder() as folder:
        bench = _Bench.load(Path(folder))
        plain = np.array([bench.judge(bench.quantize(STATIC, {}, seed)) for seed in SEEDS])
        figures = {"plain_sqnr": Figure(plain[:, 0].mean(), "dB"), "plain_top1": Figure(plain[:, 1].mean(), "%")}
        for name, options in IMPROVEMENTS.items():
            gains = np.array([bench.judge(bench.quantize(STATIC, options, seed)) for seed in SEEDS]) - plain
            figures |= _gains(name, gains)
            if name == "learned":
                figures["learned_wins"] = Figure(float((gains[:, 0] > 0).sum()), "of 3 seeds", len(SEEDS))
    return figures


def run_training() -> Figures:
    """Quantization-aware training against its equal-budget control, whatever comes out."""
    with _folder() as folder:
        bench = _Bench.load(Path(folder))
        trained = [bench.quantize(TRAINED, {}, seed) for seed in SEEDS]
        own = np.array([bench.judge(model) for model in trained])
        control = np.array([bench.judge(model.training.control) for model in trained if model.training])
        seconds = float(np.mean([model.training.seconds for model in trained if model.training]))
    figures = {"qat_top1": Figure(own[:, 1].mean(), "%"), "control_top1": Figure(control[:, 1].mean(), "%")}
    return figures | _gains("qat_over_control", own - control) | {"training": Figure(seconds, "s", 60)}


def _gains(name: str, gains: NDArray[np.float64]) -> Figures:
    """Means over the seeds with 95 % intervals, of rows (dB, percentage points)."""
    half = T_95 * gains.std(axis=0, ddof=1) / np.sqrt(len(gains))
    figures = {}
    for mean, width, what, unit in zip(gains.mean(axis=0), half, ("sqnr", "top1"), ("dB", "pp"), strict=True):
        figures[f"{name}_{what}_gain"] = Figure(float(mean), unit)
        figures[f"{name}_{what}_gain_ci95"] = Figure(float(width), f"± {unit}")
    return figures


def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="quantscope-bench-")
