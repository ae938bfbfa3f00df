"""The bundled examples say the truth: their size and accuracy are recomputed here from the artefact, by plain loops."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from experiments.examples import MODELS, README, TABLE_END, TABLE_START, folder_name, wanted, with_table
from experiments.library import EXAMPLES, Library
from experiments.store.store import Store
from models import datasets, zoo

RUNS = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(EXAMPLES.glob("*/run.json"))]
CHUNK = 500
ONE_BY_ONE = "dynamic_wi8"
"""The technique whose input range spans whatever is run at once: samples of one batch would change each other's answer."""


def artefact(run: dict[str, Any]) -> Path:
    return EXAMPLES / folder_name(run) / run["artefact"]["path"]


@pytest.fixture(scope="module")
def samples() -> dict[tuple[str, str], tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Test images as each model sees them, and their labels."""
    found = {}
    for model, data in {(run["model"], run["provenance"]["dataset"]["id"]) for run in RUNS}:
        test = datasets.load(data).split("test")
        assert test.y is not None
        found[model, data] = zoo.load(model).info.preprocess(test.x), test.y
    return found


def test_every_example_is_bundled_and_nothing_else() -> None:
    expected = {f"{model}--{backend}--{code}" for model in MODELS for backend, code in wanted()}
    assert {folder_name(run) for run in RUNS} == expected


@pytest.mark.parametrize("run", RUNS, ids=folder_name)
def test_size_is_that_of_the_artefact(run: dict[str, Any]) -> None:
    content = artefact(run).read_bytes()
    assert run["size"]["bytes"] == len(content)
    assert run["artefact"]["sha256"] == hashlib.sha256(content).hexdigest()


@pytest.mark.adapter
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning:torch")
@pytest.mark.parametrize("run", RUNS, ids=folder_name)
def test_accuracy_is_what_a_plain_loop_finds(run: dict[str, Any], samples: dict[tuple[str, str], Any]) -> None:
    x, y = samples[run["model"], run["provenance"]["dataset"]["id"]]
    assert run["quality"]["n"] == len(y)
    classify = {"tflite": tflite_classes, "pytorch": pytorch_classes, "onnxruntime": onnx_classes}[run["backend"]]
    predicted = classify(artefact(run), x, 1 if run["technique"] == ONE_BY_ONE else CHUNK)
    assert run["quality"]["top1"] == pytest.approx(float((predicted == y).mean()), abs=1e-12)


def test_the_readme_shows_these_runs() -> None:
    readme = README.read_text(encoding="utf-8")
    table = readme[readme.index(TABLE_START) : readme.index(TABLE_END)]
    assert len(re.findall(r"^\| (?!model|-)", table, re.MULTILINE)) == len(RUNS)
    rows = {tuple(line.split(" | ")[:3]): line for line in table.splitlines()}
    anew = with_table(readme, RUNS)
    for line in anew[anew.index(TABLE_START) : anew.index(TABLE_END)].splitlines():
        if line.startswith("| ") and "`" in line:
            assert rows[tuple(line.split(" | ")[:3])] == line


def test_the_library_reads_examples_as_it_reads_runs(tmp_path: Path) -> None:
    library = Library(Store(tmp_path))
    listed = library.examples()
    assert len(listed) == len(RUNS)
    run = library.run(listed[0]["run_id"])
    assert run["layers"]
    assert library.file(run["run_id"], "artefact").is_file()
    assert set(library.details(run["run_id"]))


def tflite_classes(path: Path, x: NDArray[np.float32], chunk: int) -> NDArray[np.int64]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    taken, given = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    interpreter.resize_tensor_input(taken["index"], (chunk, *x.shape[1:]))
    interpreter.allocate_tensors()
    scale, zero_point = taken["quantization"]
    found = []
    for start in range(0, len(x), chunk):
        batch = x[start : start + chunk]
        if taken["dtype"] != np.float32:
            limits = np.iinfo(taken["dtype"])
            batch = np.clip(np.round(batch / np.float32(scale)) + zero_point, limits.min, limits.max).astype(taken["dtype"])
        interpreter.set_tensor(taken["index"], batch)
        interpreter.invoke()
        found.append(interpreter.get_tensor(given["index"]).argmax(axis=1))
    return np.concatenate(found)


def pytorch_classes(path: Path, x: NDArray[np.float32], chunk: int) -> NDArray[np.int64]:
    import torch
    import torchao.quantization.pt2e.quantize_pt2e  # noqa: F401  registers the operators that quantized graphs call

    import quantizers.pytorch.packing  # noqa: F401  registers the one that unpacks weights

    module = torch.export.load(path).module()
    channels_first = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
    if all(tensor.dtype is torch.float16 for tensor in module.state_dict().values()):
        channels_first = channels_first.half()
    with torch.no_grad():
        logits = [module(channels_first[start : start + chunk]) for start in range(0, len(x), chunk)]
    return torch.cat(logits).argmax(dim=1).numpy()


def onnx_classes(path: Path, x: NDArray[np.float32], chunk: int) -> NDArray[np.int64]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    channels_first = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    logits = [session.run(None, {name: channels_first[start : start + chunk]})[0] for start in range(0, len(x), chunk)]
    found: NDArray[np.int64] = np.concatenate(logits).argmax(axis=1)
    return found
