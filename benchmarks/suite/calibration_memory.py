"""Whether calibrating ONNX Runtime takes constant memory: peak of a process that calibrates on 1,000 images against one on 50.

Histograms of activations are what would grow, so the calibrator is one that needs them; each count has a process of its own,
because a peak never falls.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.suite.figure import Figure, Figures

MODEL, DATA, TECHNIQUE, CALIBRATOR = "fashion-resnet", "fashion-mnist", "static_wi8_ai8", "percentile"
FEW, MANY = 50, 1000
TARGET_RATIO = 1.5
ROOT = Path(__file__).parents[2]


def run() -> Figures:
    """Peak resident memory in MiB for both counts of images, and their ratio."""
    few, many = _peak_mib(FEW), _peak_mib(MANY)
    return {
        "peak_ratio": Figure(many / few, "×", TARGET_RATIO),
        f"peak_with_{FEW}_images": Figure(few, "MiB"),
        f"peak_with_{MANY}_images": Figure(many, "MiB"),
    }


def _peak_mib(images: int) -> float:
    command = [sys.executable, "-m", "benchmarks.suite.calibration_memory", str(images)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1])) / 1024


def _calibrate(images: int) -> int:
    """Quantizes with that many calibration images. Returns this process's peak resident memory in KiB."""
    import resource
    import tempfile

    from models import datasets, zoo
    from quantizers import registry
    from quantizers.adapter import Request
    from quantizers.capabilities import resolve_options
    from quantizers.schema import Backend, Technique

    model = zoo.load(MODEL)
    samples = datasets.load(DATA).split("train").take(images)
    technique = Technique.parse(TECHNIQUE)
    options = resolve_options(Backend.ONNXRUNTIME, technique, {"calibrator": CALIBRATOR})
    with tempfile.TemporaryDirectory() as folder:
        request = Request(technique, options, model.info.preprocess(samples.x), Path(folder))
        registry.get(Backend.ONNXRUNTIME).quantize(model, request, lambda _fraction, _words: None)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    print(json.dumps(_calibrate(int(sys.argv[1]))))
