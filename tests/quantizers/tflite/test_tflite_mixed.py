"""Mixed precision, blocks of weights and the choices of calibration: each rule reaches its layer, and the file says so."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from models import catalogue
from quantizers.adapter import Request
from quantizers.capabilities import MIXED, resolve_options
from quantizers.errors import UnknownName, Unsupported
from quantizers.numerics import dequantize, tensor_error
from quantizers.schema import Backend, Technique
from quantizers.tflite.adapter import TFLiteAdapter

pytestmark = pytest.mark.adapter

EACH = 'mixed:{"conv1":8,"conv2":4,"block3_dw":4,"block3_pw":16,"conv4":"float","*":8}'


def quiet(fraction: float, what: str) -> None:
    """A report that nobody reads."""


@pytest.fixture
def make(subject, shared, tmp_path_factory):
    def quantize(code: str, model_id: str = "fashion-cnn", keep_float: tuple[str, ...] = (), **options: object):
        technique, case = Technique.parse(code), subject(model_id)
        resolved = resolve_options(Backend.TFLITE, technique, options)
        samples = case.calibration if technique.needs_calibration else None
        request = Request(technique, resolved, samples, tmp_path_factory.mktemp("mixed"), keep_float, shared=shared)
        return TFLiteAdapter().quantize(case.model, request, quiet)

    return quantize


def stored_types(path) -> dict[str, int]:
    """Tensor types by name, read through the flatbuffer's accessors."""
    graph = schema.Model.GetRootAs(path.read_bytes(), 0).Subgraphs(0)
    tensors = [graph.Tensors(index) for index in range(graph.TensorsLength())]
    return {tensor.Name().decode(): tensor.Type() for tensor in tensors}


def test_every_layer_has_the_bits_of_its_rule(make, subject, converted):
    model = make(EACH)
    types = {layer.name: layer.weight.dtype for layer in model.layers()}
    assert types == {
        "conv1": "int8",
        "conv2": "int4",
        "block3_dw": "int8",
        "block3_pw": "float16",
        "conv4": "float32",
        "dense": "int8",
    }
    enum = {"int8": 9, "int4": 17, "float16": 1, "float32": 0}
    in_file = stored_types(model.path)
    for layer in model.layers():
        assert in_file[layer.weight.name] == enum[layer.weight.dtype]
        assert layer.runs_in == {"int4": "int8x4", "float16": "float32"}.get(layer.weight.dtype, layer.weight.dtype)
    reasons = {layer.name: layer.why_not for layer in model.layers() if layer.why_not}
    assert set(reasons) == {"block3_dw", "conv4"}
    assert "8 bits, not 4" in reasons["block3_dw"]
    x = subject("fashion-cnn").x[:200]
    assert tensor_error(converted("fashion-cnn", "float32").predict(x), model.predict(x)).sqnr_db > 12


def test_mixed_precision_is_offered_and_refuses_what_it_cannot(make):
    assert Backend.TFLITE in MIXED
    with pytest.raises(Unsupported, match="2-bit kernels"):
        make('mixed:{"conv1":2,"*":8}')
    with pytest.raises(UnknownName, match="nowhere"):
        make('mixed:{"nowhere":8}')


@pytest.mark.parametrize(("model_id", "inputs"), [("mnist-cnn", "2,028"), ("fashion-resnet", "48"), ("fashion-cnn", None)])
def test_models_whose_dense_layers_blocks_do_not_divide_are_refused_before_anything_runs(model_id, inputs):
    refused = catalogue.refusal(catalogue.info(model_id), Backend.TFLITE, Technique.parse("dynamic_wi4_g32"))
    assert (refused and f"they are {inputs} here" in refused.message) is (True if inputs else None)
    assert catalogue.refusal(catalogue.info(model_id), Backend.TFLITE, Technique.parse("dynamic_wi4")) is None
    assert catalogue.refusal(catalogue.info(model_id), Backend.ONNXRUNTIME, Technique.parse("dynamic_wi4_g32")) is None


def test_blocks_have_scales_of_their_own_and_the_others_say_why_not(make, subject, converted):
    layers = {layer.name: layer for layer in make("dynamic_wi4_g32").layers()}
    dense = layers.pop("dense").weight
    assert (dense.dtype, dense.params.group_size) == ("int4", 32)
    assert dense.params.scale.size == dense.codes.size // 32
    error = tensor_error(dense.reference, dequantize(dense.codes, dense.params))
    whole = {layer.name: layer for layer in converted("fashion-cnn", "dynamic_wi4").layers()}["dense"].weight
    assert error.sqnr_db > tensor_error(whole.reference, dequantize(whole.codes, whole.params)).sqnr_db > 10
    for layer in layers.values():
        assert not layer.quantized
        assert "dense layers alone" in layer.why_not


def test_a_moving_average_clips_what_minimum_and_maximum_hold(make):
    """Against each other: the range of every activation is narrower."""
    held, clipped = make("static_wi8_ai8", keep_float=("dense",)), make("static_wi8_ai8", calibrator="moving_average")
    for one, other in zip(held.layers()[:-1], clipped.layers()[:-1], strict=True):
        assert other.output.params.scale[0] <= one.output.params.scale[0]
    assert clipped.layers()[0].output.params.scale[0] < held.layers()[0].output.params.scale[0]


def test_the_best_range_of_four_bits_has_less_error_than_all_of_it(make):
    plain, best = make("weight_only_wi4"), make("weight_only_wi4", weight_range="octav")
    errors = [
        [
            tensor_error(layer.weight.reference, dequantize(layer.weight.codes, layer.weight.params)).mse
            for layer in model.layers()
            if layer.weight.params
        ]
        for model in (plain, best)
    ]
    assert sum(errors[1]) < sum(errors[0])


@pytest.mark.parametrize(("io", "dtype"), [("int8", np.int8), ("uint8", np.uint8), ("float32", np.float32)])
def test_either_engine_gives_the_input_the_type_that_was_asked_for(make, io, dtype):
    from ai_edge_litert.interpreter import Interpreter

    for model in (make("static_wi8_ai8", io=io), make("static_wi8_ai8", io=io, weight_range="octav")):
        interpreter = Interpreter(str(model.path))
        assert interpreter.get_input_details()[0]["dtype"] == dtype
        assert interpreter.get_output_details()[0]["dtype"] == dtype


def test_a_float_fallback_takes_what_has_no_integer_kernel(tmp_path):
    from types import SimpleNamespace

    import keras

    from quantizers.errors import ConversionFailed

    def network():
        keras.utils.set_random_seed(0)
        source = keras.Input((32,))
        values = keras.layers.Dense(40, name="dense1")(source)
        return keras.Model(source, keras.layers.Dense(4, name="dense2")(keras.ops.floor(values)))

    model = SimpleNamespace(keras_model=network, info=SimpleNamespace(kind="zoo"))
    samples, technique = (
        np.random.default_rng(0).standard_normal((20, 32)).astype(np.float32),
        Technique.parse("static_wi8_ai8"),
    )
    for fallback in (False, True):
        options = resolve_options(Backend.TFLITE, technique, {"float_fallback": fallback})
        request = Request(technique, options, samples, tmp_path)
        if fallback:
            assert [layer.runs_in for layer in TFLiteAdapter().quantize(model, request, quiet).layers()] == ["int8", "int8"]
        else:
            with pytest.raises(ConversionFailed, match="1 FLOOR"):
                TFLiteAdapter().quantize(model, request, quiet)
