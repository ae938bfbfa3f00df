"""Files that a person brings, in a browser: dropped, looked into, told what they take, quantized, compared, inspected."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest
from ai_edge_litert.interpreter import Interpreter
from playwright.sync_api import Page, expect

from experiments.library import EXAMPLES
from quantizers.tflite.file import read_file

pytestmark = [pytest.mark.browser, pytest.mark.adapter]

ROOT = Path(__file__).parents[2]
FLOAT_TFLITE = EXAMPLES / "fashion-cnn--tflite--float32" / "model.tflite"
"""Converted from a model of the zoo by the TFLite backend."""
LAYERS = 6
EXPORT = """
import sys
from models import zoo
model = zoo.load("fashion-cnn").onnx_model()
for axis, name in zip(model.graph.input[0].type.tensor_type.shape.dim[2:], ("height", "width"), strict=True):
    axis.dim_param = name
open(sys.argv[1], "wb").write(model.SerializeToString())
"""
QUICKEST = "new_data=fashion-mnist&new_calibration=20&new_evaluation=200&new_latency=none"
LOOK = 120_000
RUN = 240_000


def go(visitor, path: str) -> Page:
    """Opens a page of the app; whoever asks for something on it waits for it."""
    visitor.page.goto(visitor.server.url + path, timeout=LOOK)
    return visitor.page


def drop(page: Page, *files: Path) -> None:
    """Gives files to the first uploader."""
    page.locator("input[type=file]").first.set_input_files([str(file) for file in files], timeout=LOOK)


def choose(page: Page, label: str, option: str) -> None:
    """Picks an option of a selectbox."""
    page.get_by_role("combobox", name=label).click(timeout=LOOK)
    page.get_by_role("option", name=option, exact=True).click(timeout=LOOK)


def run(visitor, model: str, pairs: str, trials: int) -> list[str]:
    """Runs techniques on a model from the form; returns the ids of the runs, as the link to Compare has them."""
    page = go(visitor, f"/new?new_model={model}&{QUICKEST}&new_techniques={pairs}")
    page.get_by_role("button", name="Run", exact=True).click(timeout=LOOK)
    expect(page.get_by_text(f"{trials} of {trials} done", exact=True)).to_be_visible(timeout=RUN)
    assert page.get_by_text("Failed").count() == 0
    page.get_by_role("link", name="Compare these").click(timeout=LOOK)
    expect(page.get_by_role("heading", name="Compare", exact=True)).to_be_visible(timeout=LOOK)
    expect(page.locator(".js-plotly-plot").first).to_be_visible(timeout=LOOK)
    return page.url.replace("%2C", ",").split("runs=")[1].split("&")[0].split(",")


def download(page: Page, label: str, path: Path) -> Path:
    with page.expect_download(timeout=LOOK) as given:
        page.get_by_role("button", name=label).click(timeout=LOOK)
    given.value.save_as(path)
    return path


def assert_scales_are_those_of(artefact: Path, table: Path) -> None:
    """Compares every row of a weight in a downloaded table with what the runtime says of the downloaded artefact."""
    details = {tensor["name"]: tensor["quantization_parameters"] for tensor in Interpreter(str(artefact)).get_tensor_details()}
    with table.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["tensor"] in ("weight", *details) and row["scale"]]
    compared = set()
    for row in rows:
        name = row["native_name"] if row["tensor"] == "weight" else row["tensor"]
        found = details[name]
        channel = int(row["channel"] or 0)
        assert float(row["scale"]) == pytest.approx(float(found["scales"][channel]), rel=1e-6)
        assert int(float(row["zero_point"])) == found["zero_points"][channel]
        compared.add(name)
    assert len(compared) >= LAYERS


def test_a_tflite_is_dropped_quantized_compared_and_inspected(server, visit, tmp_path: Path) -> None:
    visitor = visit(server)
    page = go(visitor, "/my")
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(FLOAT_TFLITE.read_bytes()[:3000])
    drop(page, broken)
    expect(page.get_by_text("The .tflite cannot be read")).to_be_visible(timeout=LOOK)
    expect(page.get_by_text("broken.tflite was not added.")).to_be_visible(timeout=LOOK)

    drop(page, FLOAT_TFLITE)
    expect(page.get_by_text("Its weights are float: 6 layers can be quantized.")).to_be_visible(timeout=LOOK)
    choose(page, "Values the model takes", "−1 to 1")
    expect(page.get_by_text("values from −1.00 to 1.00")).to_be_visible(timeout=LOOK)
    choose(page, "Values the model takes", "0 to 1")
    expect(page.get_by_text("values from 0 to 1.00")).to_be_visible(timeout=LOOK)
    page.reload(timeout=LOOK)
    expect(page.get_by_role("heading", name="model.tflite")).to_be_visible(timeout=LOOK)
    model = page.url.split("model=")[1].split("&")[0]

    _, quantized = run(visitor, model, "tflite:float32,tflite:static_wi8_ai8", 2)
    page = go(visitor, f"/layers?run={quantized}")
    artefact = download(page, "Artefact", tmp_path / "int8.tflite")
    assert_scales_are_those_of(artefact, download(page, "Scales and zero points (CSV)", tmp_path / "layers.csv"))

    page = go(visitor, "/my")
    drop(page, artefact)
    expect(page.get_by_text("It can be inspected and measured, not quantized again")).to_be_visible(timeout=LOOK)
    assert_scales_are_those_of(artefact, download(page, "Scales and zero points (CSV)", tmp_path / "tensors.csv"))
    page.get_by_role("tab", name="Graph").click(timeout=LOOK)
    expect(page.get_by_text("operations as the runtime runs them")).to_be_visible(timeout=LOOK)
    operations = len(read_file(artefact.read_bytes()).operations)
    expect(page.locator("[data-testid='stGraphVizChart'] svg g.node")).to_have_count(operations, timeout=LOOK)


def test_an_onnx_of_free_axes_is_given_a_shape_and_stands_beside_the_other_backends(server, visit, tmp_path: Path) -> None:
    file = tmp_path / "dynamic.onnx"
    subprocess.run([sys.executable, "-c", EXPORT, str(file)], cwd=ROOT, check=True, timeout=60)
    visitor = visit(server)
    page = go(visitor, "/my")
    drop(page, file)
    expect(page.get_by_text("It cannot be used yet")).to_be_visible(timeout=LOOK)
    for axis in ("height", "width"):
        page.get_by_label(f": {axis}").fill("28", timeout=LOOK)
    page.get_by_role("button", name="Use this shape").click(timeout=LOOK)
    expect(page.get_by_text("28 × 28 × 1 float32, values from 0 to 1.00")).to_be_visible(timeout=LOOK)
    expect(page.get_by_text("It cannot be used yet")).to_have_count(0, timeout=LOOK)
    model = page.url.split("model=")[1].split("&")[0]

    own = run(visitor, model, "onnxruntime:float32,onnxruntime:dynamic_wi8,onnxruntime:static_wi8_ai8", 3)
    assert len(own) == 3
    others = [f"example-fashion-cnn--{backend}--static_wi8_ai8" for backend in ("pytorch", "tflite")]
    page = go(visitor, f"/compare?runs={','.join([*own, *others])}")
    expect(page.locator(".js-plotly-plot").first).to_be_visible(timeout=LOOK)
    for backend in ("ONNX Runtime", "PyTorch", "TFLite"):
        expect(page.get_by_text(f"{backend} · Full int8").first).to_be_attached(timeout=LOOK)
