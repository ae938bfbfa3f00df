import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.engine import Engine, Prefix
from models import datasets, zoo
from quantizers.errors import Unsupported


def samples(model_id: str, n: int) -> Tensor:
    model = zoo.load(model_id)
    x = datasets.load(model.info.datasets[0]).split("calibration").take(n).x
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(model.info.preprocess(x), -1, 1)))


@pytest.fixture(scope="module", params=["mnist-cnn", "fashion-resnet", "efficientnet-lite0"])
def engine(request: pytest.FixtureRequest) -> Engine:
    model = zoo.load(request.param)
    return Engine(model.torch_module(), samples(request.param, 3), batch=2)


def test_it_answers_as_the_module_does_and_leaves_it_alone() -> None:
    model = zoo.load("fashion-resnet")
    module, x = model.torch_module(), samples("fashion-resnet", 20)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    engine = Engine(module, x)
    with torch.inference_mode():
        expected = module(x)
    torch.testing.assert_close(engine.run(), expected, rtol=1e-4, atol=1e-4)
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert not any(isinstance(one, nn.BatchNorm2d) for one in engine.graph_module.modules())


def test_its_layers_are_those_of_the_zoo_with_their_multiplications() -> None:
    model = zoo.load("efficientnet-lite0")
    engine = Engine(model.torch_module(), samples("efficientnet-lite0", 1))
    assert [layer.name for layer in engine.layers] == list(model.layer_names)
    assert sum(layer.macs for layer in engine.layers) == pytest.approx(385e6, rel=0.01)
    assert engine.layers[-1].macs == 1280 * 1000


def test_resuming_from_a_layer_is_bit_exact(engine: Engine) -> None:
    for layer in engine.layers[::4]:
        weight = layer.weight + 0.01 * layer.weight.abs().max()
        whole = engine.run({layer.name: weight})
        parts = [Prefix(engine, batch).resume(layer, weight) for batch in engine.batches()]
        assert torch.equal(whole, torch.cat(parts)), layer.name


def test_a_prefix_serves_many_resumptions(engine: Engine) -> None:
    prefix = Prefix(engine, engine.batches()[0])
    for layer in engine.layers[::4]:
        prefix.resume(layer, torch.zeros_like(layer.weight))
    first = engine.layers[0]
    assert torch.equal(prefix.resume(first, first.weight), prefix.output)


def test_weights_are_put_back(engine: Engine) -> None:
    expected = engine.run()
    changed = engine.run({layer.name: torch.zeros_like(layer.weight) for layer in engine.layers})
    assert not torch.equal(changed, expected)
    with pytest.raises(RuntimeError, match="stop"), engine.replaced({engine.layers[0].name: engine.layers[0].weight * 0}):
        raise RuntimeError("stop")
    assert torch.equal(engine.run(), expected)


class Twice(nn.Module):
    """One dense layer that runs twice, and a branch that does not depend on the other."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.other = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.shared(torch.relu(self.shared(x))) + self.other(x)


def test_a_layer_that_runs_twice_is_one_layer() -> None:
    torch.manual_seed(0)
    engine = Engine(Twice(), torch.randn(5, 4), batch=2)
    assert {layer.name: layer.macs for layer in engine.layers} == {"shared": 32, "other": 16}
    for layer in engine.layers:
        parts = [Prefix(engine, batch).resume(layer, layer.weight * 2) for batch in engine.batches()]
        assert torch.equal(torch.cat(parts), engine.run({layer.name: layer.weight * 2}))


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_what_cannot_be_analysed_is_refused() -> None:
    x = torch.ones(2, 3)
    with pytest.raises(Unsupported, match="no convolution or dense layer"):
        Engine(nn.ReLU(), x)
    with pytest.raises(Unsupported, match="cannot trace"):
        Engine(Branching(), x)
