"""The two lower rungs: hooks compute what the graph computes, weights alone are rounded as on a graph, files load back."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.outputs import DIVERGED, LayerOutputs
from quantizers.adapter import Request, not_run
from quantizers.capabilities import resolve_options
from quantizers.errors import BadData, NothingQuantized, Unsupported
from quantizers.numerics import dequantize
from quantizers.pytorch.adapter import PyTorchAdapter
from quantizers.pytorch.annotate import DENSE_ONLY, KEPT_BY_CHOICE
from quantizers.pytorch.bare import NOT_REACHED
from quantizers.pytorch.state_file import read
from quantizers.schema import Backend, Execution, Technique

pytestmark = pytest.mark.adapter
SHAPE = (6, 6, 2)
SAMPLES = np.random.default_rng(0).standard_normal((12, *SHAPE)).astype(np.float32)
CODES = (
    *("static_wi8_ai8", "static_wi8_ai16", "static_wi4_ai8", "dynamic_wi8", "weight_only_wi8", "weight_only_wi8_g32"),
    *("weight_only_wi4", "weight_only_wi2_g32", "binary", "ternary", "hybrid_wf16_ai8", 'mixed:{"1": 4, "4": 16, "*": 8}'),
)


class Net(nn.Sequential):
    """A chain that has a graph; `Opaque` is the same without one."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        flat = 3 * 4 * 4
        convolutions = nn.Conv2d(2, 3, 3), nn.Conv2d(3, 3, 1, bias=False)
        super().__init__(*convolutions, nn.ReLU(), nn.Flatten(), nn.Linear(flat, 40), nn.Linear(40, 3))


class Opaque(Net):
    def forward(self, x):
        if x.shape[0] > 1:
            raise ValueError("one at a time")
        return super().forward(x)


class Broken(Net):
    def forward(self, x):
        raise NotImplementedError("nothing says how to run this")


def run(module, tmp_path, code="static_wi8_ai8", samples=SAMPLES, keep_float=(), **options):
    technique = Technique.parse(code)
    model = SimpleNamespace(info=SimpleNamespace(input_shape=samples.shape[1:]), torch_module=module.eval)
    tmp_path.mkdir(exist_ok=True)
    request = Request(technique, resolve_options(Backend.PYTORCH, technique, options), samples, tmp_path, keep_float)
    return PyTorchAdapter().quantize(model, request, lambda fraction, words: None)


@pytest.mark.parametrize("code", CODES)
def test_hooks_compute_what_the_graph_computes(tmp_path, code) -> None:
    on_graph = run(Net(), tmp_path / "graph", code, observer="minmax")
    by_hooks = run(Opaque(), tmp_path / "hooks", code, observer="minmax")
    assert by_hooks.steps[-1].name == "hooks"
    assert by_hooks.execution is Execution.SIMULATED
    assert "graph" in by_hooks.execution_why
    found, expected = by_hooks.predict(SAMPLES), on_graph.predict(SAMPLES)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    for mine, other in zip(by_hooks.layers(), on_graph.layers(), strict=True):
        assert (mine.name, mine.quantized, mine.weight.dtype) == (other.name, other.quantized, other.weight.dtype)
        np.testing.assert_array_equal(mine.weight.codes, other.weight.codes)
        if other.weight.params:
            np.testing.assert_array_equal(mine.weight.params.scale, other.weight.params.scale)
        if other.inputs[0].params:
            assert mine.inputs[0].params.scale == pytest.approx(other.inputs[0].params.scale, rel=1e-6)
        assert mine.inputs[0].dtype == other.inputs[0].dtype


@pytest.mark.parametrize("code", ["weight_only_wi4", "weight_only_wi2_g32", "binary", "static_wi8_ai8"])
@pytest.mark.parametrize("module", [Opaque, Broken])
def test_the_file_holds_every_code_and_scale_packed(tmp_path, code, module) -> None:
    made = run(module(), tmp_path, code)
    kept, state = read(made.path), Net().state_dict()
    assert made.path.suffix == ".safetensors"
    for layer in made.layers():
        codes, params = kept.weights[layer.weight.name]
        np.testing.assert_array_equal(codes, layer.weight.codes)
        values = kept.values(layer.weight.name).numpy()
        np.testing.assert_array_equal(values.ravel(), dequantize(codes, params).astype(np.float32).ravel())
        assert values.shape == state[layer.weight.name].shape
        np.testing.assert_array_equal(layer.weight.reference.ravel(), state[layer.weight.name].numpy().ravel())
    with pytest.raises(Unsupported, match="no graph"):
        PyTorchAdapter().open(made.path, {}, threads=1)
    baseline = run(module(), tmp_path / "float", "float32")
    assert made.path.stat().st_size < baseline.path.stat().st_size


def test_sixteen_bits_are_stored_and_float_stays_exact(tmp_path) -> None:
    baseline = run(Opaque(), tmp_path / "float", "float32")
    with torch.no_grad():
        expected = Net().eval()(torch.from_numpy(np.moveaxis(SAMPLES, -1, 1).copy())).numpy()
    np.testing.assert_allclose(baseline.predict(SAMPLES), expected, rtol=1e-4, atol=1e-6)
    assert not any(layer.quantized for layer in baseline.layers())
    for code in ("float16", "bfloat16"):
        made = run(Opaque(), tmp_path / code, code)
        assert {layer.weight.dtype for layer in made.layers()} == {code}
        assert {str(kept.dtype) for kept in read(made.path).tensors.values() if kept.ndim > 1} == {f"torch.{code}"}
        assert np.abs(made.predict(SAMPLES) - expected).max() < 0.02 * np.abs(expected).max()


def test_of_weights_alone_nothing_else_is_said(tmp_path) -> None:
    made = run(Broken(), tmp_path)
    assert [step.name for step in made.steps] == ["graph", "hooks", "weights alone"]
    assert "nothing says how to run this" in made.steps[0].outcome
    assert "only the weights" in not_run(made)
    assert made.execution is Execution.SIMULATED
    outputs = LayerOutputs(made.layers(), absent=not_run(made))
    assert all(report.output is None and "only the weights" in report.output_why_not for report in outputs.reports())
    assert all(report.weight.sqnr_db > 30 and not report.inputs for report in outputs.reports())
    assert outputs.arrays() == {}
    with pytest.raises(Unsupported, match="only the weights"):
        made.activations(SAMPLES)


def test_layers_kept_or_left_in_float_say_why(tmp_path) -> None:
    kept = {layer.name: layer for layer in run(Opaque(), tmp_path / "kept", keep_float=("4",)).layers()}
    assert (kept["4"].quantized, kept["4"].why_not, kept["4"].inputs[0].dtype) == (False, KEPT_BY_CHOICE, "float32")
    dense = {layer.name: layer.why_not for layer in run(Opaque(), tmp_path / "dense", "dynamic_wi8").layers()}
    assert dense == {"0": DENSE_ONLY, "1": DENSE_ONLY, "4": None, "5": None}


class Routed(nn.Module):
    """A mixture of experts: each sample goes one of two ways."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.left, self.right = nn.Linear(6, 6), nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x):
        if x.shape[0] > 1:
            raise ValueError("one at a time")
        x = self.first(x)
        return self.left(x) if float(x.sum()) > 0 else self.right(x)


def test_layers_that_not_every_sample_takes_along_have_no_output_error(tmp_path) -> None:
    samples = SAMPLES.reshape(-1, 6)
    made, baseline = (run(Routed(), tmp_path / code, code, samples) for code in ("static_wi8_ai8", "float32"))
    assert [layer.quantized for layer in made.layers()] == [True, True, True]
    assert set(made.activations(samples)) == {"first"}
    outputs = LayerOutputs(made.layers())
    outputs.add(baseline.activations(samples), made.activations(samples))
    reports = {report.name: report for report in outputs.reports()}
    assert reports["first"].output.sqnr_db > 20
    assert (reports["left"].output, reports["left"].output_why_not) == (None, DIVERGED)


def test_a_layer_that_no_calibration_sample_reaches_stays_in_float(tmp_path) -> None:
    module = Routed()
    with torch.no_grad():
        module.first.weight.zero_()
        module.first.bias.fill_(1.0)
    made = {layer.name: layer for layer in run(module, tmp_path, samples=SAMPLES.reshape(-1, 6)).layers()}
    assert (made["right"].quantized, made["right"].why_not) == (False, NOT_REACHED)
    assert (made["first"].quantized, made["left"].quantized) == (True, True)


@pytest.mark.parametrize(
    ("code", "options"),
    [("qat_wi8_ai8", {}), ("static_wi8_ai8", {"rounding": "learned"}), ("weight_only_wi8", {"equalize": True})],
)
@pytest.mark.parametrize("module", [Opaque, Broken])
def test_what_needs_a_graph_is_refused(tmp_path, module, code, options) -> None:
    with pytest.raises(Unsupported, match="needs a graph"):
        run(module(), tmp_path, code, **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("module", [Opaque, Broken])
def test_broken_weights_are_refused_by_name_on_every_rung(tmp_path, module) -> None:
    broken = module()
    broken[4].weight.data[0, 0] = torch.nan
    with pytest.raises(BadData, match="weight of 4 holds NaN"):
        run(broken, tmp_path)


def test_channels_of_zeros_constant_activations_and_single_numbers_survive_hooks(tmp_path) -> None:
    module = Opaque()
    with torch.no_grad():
        module[0].weight.zero_()
        module[5].weight[1] = 0
        expected = Net.forward(module.eval(), torch.zeros(1, 2, 6, 6)).numpy()
    found = run(module, tmp_path / "zeros").predict(SAMPLES)
    np.testing.assert_allclose(found, np.broadcast_to(found[:1], found.shape), rtol=1e-6)
    np.testing.assert_allclose(found[:, 1], expected[0, 1], rtol=1e-6)

    class Tiny(nn.Sequential):
        def forward(self, x):
            if x.shape[0] > 1:
                raise ValueError("one at a time")
            return super().forward(x)

    tiny = Tiny(nn.Conv2d(1, 1, 1), nn.Flatten(), nn.Linear(1, 1))
    made = run(tiny, tmp_path / "tiny", samples=SAMPLES[:, :1, :1, :1])
    assert [layer.weight.codes.size for layer in made.layers()] == [1, 1]


def test_a_module_without_weights_or_without_layers_quantizes_nothing(tmp_path) -> None:
    class Nothing(nn.Module):
        def forward(self, x):
            raise ValueError("no")

    with pytest.raises(NothingQuantized, match="no convolution or dense layer"):
        run(Nothing(), tmp_path)


def test_parametrized_weights_are_baked_and_quantized_on_a_graph(tmp_path) -> None:
    torch.manual_seed(0)
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(6, 6))
    made = run(nn.Sequential(normed, nn.Linear(6, 3)), tmp_path, samples=SAMPLES.reshape(-1, 6))
    assert [step.name for step in made.steps] == ["weights", "torch.export"]
    assert all(layer.quantized for layer in made.layers())
