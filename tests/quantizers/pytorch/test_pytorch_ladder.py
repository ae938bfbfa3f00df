"""Modules that are no plain chain of layers: the rung of the ladder they land on, with the reasons, or the error they get."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from quantizers.adapter import Request, not_run
from quantizers.capabilities import resolve_options
from quantizers.errors import BadData, NothingQuantized, Unsupported
from quantizers.pytorch.adapter import PyTorchAdapter
from quantizers.schema import Backend, Execution, Technique

pytestmark = pytest.mark.adapter
WIDTH = 6
SAMPLES = np.random.default_rng(0).standard_normal((8, WIDTH)).astype(np.float32)


def run(module, tmp_path, code="static_wi8_ai8", samples=SAMPLES):
    technique = Technique.parse(code)
    model = SimpleNamespace(info=SimpleNamespace(input_shape=samples.shape[1:]), torch_module=module.eval)
    request = Request(technique, resolve_options(Backend.PYTORCH, technique, {}), samples, tmp_path)
    return PyTorchAdapter().quantize(model, request, lambda fraction, words: None)


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 3)


class Branches(Base):
    def forward(self, x):
        x = self.first(x)
        return self.second(x) if x.sum() > 0 else self.second(-x)


class Numpy(Base):
    def forward(self, x):
        return self.second(torch.from_numpy(np.tanh(self.first(x).detach().numpy())))


class Dictionary(Base):
    def forward(self, x):
        return {"logits": self.second(self.first(x)), "hidden": x}


class Shared(Base):
    def forward(self, x):
        return self.second(self.first(torch.relu(self.first(x))))


class Recurrent(Base):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(WIDTH, WIDTH, batch_first=True)

    def forward(self, x):
        return self.second(self.lstm(self.first(x).unsqueeze(1))[0][:, -1])


class OneByOne(Base):
    def forward(self, x):
        return self.second(self.first(x).reshape(1, WIDTH))


@pytest.mark.parametrize("module", [Dictionary, Recurrent, Numpy])
def test_modules_with_a_graph_are_quantized_and_say_how(tmp_path, module) -> None:
    torch.manual_seed(0)
    built = module()
    with torch.no_grad():
        output = built.eval()(torch.from_numpy(SAMPLES))
    expected = (output["logits"] if isinstance(output, dict) else output).numpy()
    made = run(built, tmp_path)
    assert {layer.name for layer in made.layers() if layer.quantized} == {"first", "second"}
    assert made.steps[-1].name == ("torch.export, strict" if module is Numpy else "torch.export")
    assert made.steps[-1].outcome.startswith("taken")
    assert ("outputs" in {step.name for step in made.steps}) == (module is Dictionary)
    np.testing.assert_allclose(made.predict(SAMPLES), expected, atol=0.05 * np.abs(expected).max())


class Frozen(Base):
    def forward(self, x):
        return self.second(self.first(x)) * float(torch.rand(()))


def taken(made) -> str:
    """The rung, the last of the steps."""
    assert made.steps[-1].outcome.startswith("taken")
    return made.steps[-1].name


def test_layers_in_branches_that_depend_on_values_are_reached_by_hooks(tmp_path) -> None:
    made = run(Branches(), tmp_path)
    assert taken(made) == "hooks"
    assert "layers lie in branches" in {step.name: step.outcome for step in made.steps}["TorchScript"]
    assert (made.execution, not_run(made)) == (Execution.SIMULATED, None)
    assert [(layer.name, layer.quantized) for layer in made.layers()] == [("first", True), ("second", True)]


def test_each_call_of_a_shared_module_is_a_layer(tmp_path) -> None:
    made = run(Shared(), tmp_path)
    assert [layer.name for layer in made.layers()] == ["first", "first#2", "second"]
    assert set(made.activations(SAMPLES)) == {"first", "first#2", "second"}


def test_of_a_module_that_answers_at_random_the_weights_are_left_with_the_reason_of_every_way(tmp_path) -> None:
    made = run(Frozen(), tmp_path)
    assert [step.name for step in made.steps] == [
        *("torch.export", "torch.export, strict", "TorchScript", "hooks", "weights alone")
    ]
    assert "differently each time" in made.steps[-2].outcome
    assert not_run(made)
    with pytest.raises(Unsupported, match="only the weights"):
        made.predict(SAMPLES)


def test_a_module_for_one_sample_alone_is_reached_by_hooks(tmp_path) -> None:
    torch.manual_seed(0)
    module = OneByOne().eval()
    with torch.no_grad():
        expected = np.concatenate([module(torch.from_numpy(SAMPLES[n : n + 1])).numpy() for n in range(len(SAMPLES))])
    made = run(module, tmp_path)
    assert taken(made) == "hooks"
    assert "2 samples at once" in made.steps[0].outcome
    np.testing.assert_allclose(made.predict(SAMPLES), expected, atol=0.05 * np.abs(expected).max())


def test_nan_weights_and_modules_without_layers_are_refused(tmp_path) -> None:
    broken = nn.Sequential(nn.Linear(WIDTH, 3))
    broken[0].weight.data[0, 0] = torch.nan
    with pytest.raises(BadData, match="NaN"):
        run(broken, tmp_path)
    with pytest.raises(NothingQuantized):
        run(nn.Sequential(nn.ReLU()), tmp_path)


def test_zero_channels_and_constant_activations_stay_exact(tmp_path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 3))
    with torch.no_grad():
        module[0].weight.zero_()
        module[1].weight[1] = 0
        expected = module(torch.from_numpy(SAMPLES)).numpy()
    found = run(module, tmp_path).predict(SAMPLES)
    np.testing.assert_allclose(found[:, 1], expected[:, 1], rtol=1e-6)
    np.testing.assert_allclose(found, expected, atol=0.05 * np.abs(expected).max())
