"""An architecture is checked when it is written down, and its forms agree on what is easy to get wrong: padding and order."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models import designs
from models.architecture import (
    INPUT,
    Add,
    Architecture,
    BatchNorm,
    Conv2d,
    Dense,
    DepthwiseConv2d,
    Flatten,
    MaxPool,
    Node,
    Relu,
    Relu6,
    same_padding,
)

DESIGNS = [designs.mnist_mlp, designs.mnist_cnn, designs.fashion_cnn, designs.fashion_resnet, designs.efficientnet_lite0]


def random_weights(architecture: Architecture) -> dict[str, NDArray[np.float32]]:
    random = np.random.default_rng(0)
    return {
        name: random.uniform(0.5, 1.5, shape).astype(np.float32)
        * (1 if "running_var" in name else random.choice([-1, 1], shape))
        for name, shape in architecture.weight_shapes.items()
    }


def outputs(architecture: Architecture) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Both forms' outputs for the same weights and images."""
    import torch

    from models import keras_form, torch_form

    weights = random_weights(architecture)
    x = np.random.default_rng(1).normal(size=(3, *architecture.input_shape)).astype(np.float32)
    with torch.inference_mode():
        ours = torch_form.build(architecture, weights)(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    return ours, np.asarray(keras_form.build(architecture, weights, "test")(x))


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "expected"),
    [(28, 3, 1, (1, 1)), (28, 3, 2, (0, 1)), (7, 3, 2, (1, 1)), (56, 5, 2, (1, 2)), (14, 1, 2, (0, 0)), (14, 1, 1, (0, 0))],
)
def test_same_padding_is_tensorflows(size: int, kernel: int, stride: int, expected: tuple[int, int]) -> None:
    assert same_padding(size, kernel, stride) == expected


@pytest.mark.parametrize(
    "layer",
    [
        Conv2d("layer", (INPUT,), filters=4),
        Conv2d("layer", (INPUT,), padding=(1, 1), filters=4),
        Conv2d("layer", (INPUT,), stride=2, padding=(1, 1), filters=4),
        Conv2d("layer", (INPUT,), stride=2, padding=(0, 1), filters=4),
        Conv2d("layer", (INPUT,), kernel=5, stride=2, padding=(2, 1), filters=4),
        Conv2d("layer", (INPUT,), kernel=1, stride=2, bias=False, filters=4),
        DepthwiseConv2d("layer", (INPUT,), stride=2, padding=(1, 1)),
        DepthwiseConv2d("layer", (INPUT,), stride=2, padding=(0, 1), bias=False),
        BatchNorm("layer", (INPUT,), epsilon=1e-3),
        MaxPool("layer", (INPUT,)),
        Relu6("layer", (INPUT,)),
        Add("layer", (INPUT, INPUT)),
    ],
    ids=repr,
)
@pytest.mark.parametrize("shape", [(8, 8, 3), (7, 9, 3)], ids=str)
def test_the_forms_of_a_node_agree_to_the_last_pixel(layer: Node, shape: tuple[int, int, int]) -> None:
    architecture = Architecture(shape, (layer, Flatten("flatten", ("layer",)), Dense("dense", ("flatten",), units=5)))
    torch_output, keras_output = outputs(architecture)
    assert np.abs(torch_output - keras_output).max() <= 1e-5 * np.abs(torch_output).max()


def test_a_dense_layer_follows_the_order_of_the_flattened_image() -> None:
    """Had the columns not been moved, the outputs would differ: the weights are random."""
    nodes = (Flatten("flatten", (INPUT,)), Dense("dense", ("flatten",), units=4))
    torch_output, keras_output = outputs(Architecture((3, 5, 2), nodes))
    np.testing.assert_allclose(torch_output, keras_output, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("design", DESIGNS, ids=lambda design: design.__name__)
def test_shapes_and_parameters_are_those_of_the_module(design: Any) -> None:
    import torch

    from models.torch_form import TorchForm

    architecture = design()
    module, seen = TorchForm(architecture).eval(), {}
    for name, child in module.named_children():
        child.register_forward_hook(lambda _m, _i, output, name=name: seen.update({name: tuple(output.shape[1:])}))
    height, width, channels = architecture.input_shape
    with torch.inference_mode():
        module(torch.zeros(1, channels, height, width))
    as_seen = {name: shape if len(shape) == 1 else (*shape[1:], shape[0]) for name, shape in seen.items()}
    assert as_seen == {name: shape for name, shape in architecture.shapes.items() if name != INPUT}
    assert architecture.parameters == sum(value.numel() for value in module.parameters())


@pytest.mark.parametrize(
    ("nodes", "complaint"),
    [
        ((Relu("a", (INPUT,)), Relu("a", ("a",))), "two nodes are called a"),
        ((Relu("a", ("b",)), Relu("b", ("a",))), "a reads b"),
        ((Flatten("a", (INPUT,)), Relu("b", ("a",))), "b reads a flattened image"),
    ],
)
def test_a_wrong_architecture_cannot_be_written_down(nodes: tuple[Node, ...], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Architecture((4, 4, 1), nodes)


def test_the_zoo_holds_what_its_texts_say() -> None:
    assert [len(design().layer_names) for design in DESIGNS] == [2, 2, 6, 11, 50]
    assert designs.mnist_cnn().shapes["flatten"] == (13 * 13 * 12,)
    assert [design().parameters for design in DESIGNS[:2]] == [784 * 128 + 128 + 128 * 10 + 10, 120 + 2028 * 10 + 10]
