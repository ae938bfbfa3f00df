"""What every adapter promises, for every technique it claims: the contract of `quantizers.adapter`, on a real model."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from models import datasets, zoo
from models.float_model import FloatModel
from quantizers import registry
from quantizers.adapter import Adapter, Batch, QuantizedModel, Request, Training
from quantizers.capabilities import BACKENDS, Capability, needs_calibration, resolve_options, techniques
from quantizers.numerics import dequantize, integer_range, quantize, tensor_error
from quantizers.schema import QuantizedTensor, Role, Technique

pytestmark = pytest.mark.adapter

MODEL = "mnist-cnn"
EVEN = {"dynamic_wi4_g32": "fashion-cnn"}
"""Blocks of weights need dense layers whose number of inputs they divide; samples are of one shape."""
CELLS = [cell for backend in BACKENDS for cell in techniques(backend) if cell.available]


@dataclass(frozen=True)
class Case:
    cell: Capability
    adapter: Adapter
    float_model: FloatModel
    batch: Batch
    model: QuantizedModel


@pytest.fixture(scope="module")
def float_model() -> FloatModel:
    return zoo.load(MODEL)


@pytest.fixture(scope="module")
def samples() -> Batch:
    return zoo.load(MODEL).info.preprocess(datasets.load("mnist-5k").split("calibration").take(64).x)


@pytest.fixture(scope="module")
def training(samples: Batch) -> Training:
    labels = datasets.load("mnist-5k").split("calibration").take(64).y
    assert labels is not None
    return Training(samples, labels, samples, labels)


@pytest.fixture(scope="module", params=CELLS, ids=lambda cell: f"{cell.backend}-{cell.code}")
def case(
    request: pytest.FixtureRequest,
    float_model: FloatModel,
    samples: Batch,
    training: Training,
    tmp_path_factory: pytest.TempPathFactory,
) -> Case:
    cell: Capability = request.param
    technique = Technique.parse(cell.code)
    adapter = registry.get(cell.backend)
    float_model = zoo.load(EVEN[cell.code]) if cell.code in EVEN else float_model
    options = resolve_options(cell.backend, technique, {})
    asked = Request(
        technique=technique,
        options=options,
        calibration=samples if needs_calibration(technique, options) else None,
        workdir=tmp_path_factory.mktemp("artefact"),
        training=training if technique.needs_training else None,
    )
    return Case(cell, adapter, float_model, samples, adapter.quantize(float_model, asked, lambda _fraction, _words: None))


def least_sqnr_db(weight: QuantizedTensor) -> float:
    """What any sound quantizer reaches on trained weights: about 6 dB a bit, less the headroom a bell-shaped tensor needs."""
    bits = weight.params.bits if weight.params else 16
    return {1: 2.0, 2: 2.0, 4: 9.0}.get(bits, 30.0)


def test_the_artefact_lies_in_the_workdir(case: Case) -> None:
    assert case.model.path.is_file()
    assert case.model.path.stat().st_size > 0


def test_layers_carry_the_models_names_in_execution_order(case: Case) -> None:
    assert tuple(layer.name for layer in case.model.layers()) == case.float_model.layer_names


def test_execution_is_what_the_table_says(case: Case) -> None:
    assert case.model.execution is case.cell.execution
    assert (case.model.execution_why is None) == (case.model.execution.value == "native")


def test_a_layer_is_quantized_or_says_why_not(case: Case) -> None:
    quantized = [layer for layer in case.model.layers() if layer.quantized]
    assert bool(quantized) == (case.cell.code != "float32")
    for layer in case.model.layers():
        assert layer.quantized or case.cell.code == "float32" or layer.why_not


def test_stored_weights_stand_for_the_float_weights(case: Case) -> None:
    for layer in case.model.layers():
        weight = layer.weight
        assert weight.role is Role.WEIGHT
        assert weight.codes is not None
        assert weight.reference is not None
        assert weight.codes.shape == weight.reference.shape
        restored = dequantize(weight.codes, weight.params) if weight.params else weight.codes.astype(np.float64)
        error = tensor_error(weight.reference, restored)
        assert error.exact or (error.sqnr_db is not None and error.sqnr_db > least_sqnr_db(weight))


def test_codes_lie_in_the_stated_range(case: Case) -> None:
    for layer in case.model.layers():
        for tensor in (layer.weight, layer.bias, *layer.inputs, layer.output):
            if tensor is None or tensor.params is None:
                continue
            low, high = integer_range(tensor.params.bits, signed=tensor.params.qmin < 0)
            assert low <= tensor.params.qmin < tensor.params.qmax <= high
            assert (tensor.params.scale > 0).all()
            if tensor.codes is not None:
                assert tensor.codes.min() >= tensor.params.qmin
                assert tensor.codes.max() <= tensor.params.qmax


def test_predictions_are_logits_of_any_batch_size(case: Case) -> None:
    logits = case.model.predict(case.batch[:7])
    assert logits.shape == (7, case.float_model.info.classes)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(logits[:1], case.model.predict(case.batch[:1]), rtol=1e-4, atol=1e-4 * np.abs(logits).max())


def test_activations_cover_every_layer_with_the_batch_first(case: Case) -> None:
    activations = case.model.activations(case.batch[:5])
    assert set(activations) == set(case.float_model.layer_names)
    for output in activations.values():
        assert output.shape[0] == 5
        assert output.dtype == np.float32
        assert np.isfinite(output).all()


def test_a_quantized_output_lies_on_its_grid(case: Case) -> None:
    activations = case.model.activations(case.batch[:5])
    for layer in case.model.layers():
        if layer.output is None or layer.output.params is None:
            continue
        params, values = layer.output.params, activations[layer.name]
        on_grid = dequantize(quantize(values, params), params)
        np.testing.assert_allclose(values, on_grid, atol=1e-3 * float(params.scale[0]), rtol=1e-5)


def test_a_session_gives_the_logits_that_predict_gives(case: Case) -> None:
    if case.model.execution.value == "simulated":
        pytest.skip("a simulated run has no session: its latency is never measured")
    options = resolve_options(case.cell.backend, Technique.parse(case.cell.code), {})
    session = case.adapter.open(Path(case.model.path), options, threads=1)
    output = np.asarray(session.run(session.prepare(case.batch[:1])))
    assert output.reshape(-1).shape == (case.float_model.info.classes,)
    assert int(output.reshape(-1).argmax()) == int(case.model.predict(case.batch[:1]).argmax())


def test_versions_name_what_the_result_depends_on(case: Case) -> None:
    versions = case.adapter.versions()
    assert versions
    assert all(version[0].isdigit() for version in versions.values())
