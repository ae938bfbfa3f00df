"""The architectures of the zoo, each as a function that writes it down."""

from __future__ import annotations

from models.architecture import (
    INPUT,
    Add,
    Architecture,
    BatchNorm,
    Conv2d,
    Dense,
    DepthwiseConv2d,
    Flatten,
    GlobalAveragePool,
    MaxPool,
    Node,
    Padding,
    Relu,
    Relu6,
    same_padding,
)

_AROUND: Padding = (1, 1)
_GREY = (28, 28, 1)


def mnist_mlp() -> Architecture:
    """784-128-10."""
    return Architecture(
        _GREY,
        (
            Flatten("flatten", (INPUT,)),
            Dense("dense1", ("flatten",), units=128),
            Relu("relu1", ("dense1",)),
            Dense("dense2", ("relu1",), units=10),
        ),
    )


def mnist_cnn() -> Architecture:
    """The network of Keras' quantization-aware-training tutorial: one convolution and one dense layer."""
    return Architecture(
        _GREY,
        (
            Conv2d("conv1", (INPUT,), filters=12),
            Relu("relu1", ("conv1",)),
            MaxPool("pool1", ("relu1",)),
            Flatten("flatten", ("pool1",)),
            Dense("dense", ("flatten",), units=10),
        ),
    )


def fashion_cnn() -> Architecture:
    """Convolutions with batch norm and a depthwise-separable block, whose channels differ much in range."""
    return Architecture(
        _GREY,
        (
            *_normed(Conv2d("conv1", (INPUT,), padding=_AROUND, bias=False, filters=16)),
            *_normed(Conv2d("conv2", ("conv1_relu",), padding=_AROUND, bias=False, filters=32)),
            MaxPool("pool2", ("conv2_relu",)),
            *_normed(DepthwiseConv2d("block3_dw", ("pool2",), padding=_AROUND, bias=False)),
            *_normed(Conv2d("block3_pw", ("block3_dw_relu",), kernel=1, bias=False, filters=64)),
            MaxPool("pool3", ("block3_pw_relu",)),
            *_normed(Conv2d("conv4", ("pool3",), padding=_AROUND, bias=False, filters=64)),
            GlobalAveragePool("pool4", ("conv4_relu",)),
            Dense("dense", ("pool4",), units=10),
        ),
    )


def fashion_resnet() -> Architecture:
    """A residual network after He et al. 2015 (arXiv:1512.03385): a stem, two stages of two blocks, eleven weighted layers."""
    nodes = [*_normed(Conv2d("stem", (INPUT,), padding=_AROUND, bias=False, filters=24)), MaxPool("stem_pool", ("stem_relu",))]
    for number, (filters, stride) in enumerate([(24, 1), (24, 1), (48, 2), (48, 1)], start=1):
        nodes += _residual(f"block{number}", nodes[-1].name, filters, stride)
    nodes += [GlobalAveragePool("pool", (nodes[-1].name,)), Dense("dense", ("pool",), units=10)]
    return Architecture(_GREY, tuple(nodes))


def efficientnet_lite0() -> Architecture:
    """EfficientNet-Lite0: inverted residual blocks (arXiv:1801.04381) with ReLU6 and TensorFlow's "same" padding."""
    nodes, size = _lite_conv("stem", INPUT, 224, filters=32, kernel=3, stride=2)
    channels, number = 32, 0
    for repeats, kernel, stride, expansion, filters in _LITE0_STAGES:
        for repeat in range(repeats):
            block, size = _inverted(
                f"block{number}", nodes[-1].name, size, channels, expansion, filters, kernel, stride if repeat == 0 else 1
            )
            nodes, channels, number = nodes + block, filters, number + 1
    head, _ = _lite_conv("head", nodes[-1].name, size, filters=1280, kernel=1)
    tail = (GlobalAveragePool("pool", (head[-1].name,)), Dense("dense", ("pool",), units=1000))
    return Architecture((224, 224, 3), (*nodes, *head, *tail))


_LITE0_STAGES = (
    # blocks, kernel, stride of the first block, expansion, filters
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_TENSORFLOW_EPSILON = 1e-3


def _normed(layer: Node) -> list[Node]:
    """A layer with batch norm and ReLU after it."""
    return [layer, BatchNorm(f"{layer.name}_bn", (layer.name,)), Relu(f"{layer.name}_relu", (f"{layer.name}_bn",))]


def _residual(name: str, source: str, filters: int, stride: int) -> list[Node]:
    """Two convolutions and a shortcut, which is a 1 × 1 convolution where the shape changes."""
    first = _normed(Conv2d(f"{name}_conv1", (source,), stride=stride, padding=_AROUND, bias=False, filters=filters))
    second = Conv2d(f"{name}_conv2", (first[-1].name,), padding=_AROUND, bias=False, filters=filters)
    nodes: list[Node] = [*first, second, BatchNorm(f"{name}_conv2_bn", (second.name,))]
    shortcut = source
    if stride > 1:
        projection = Conv2d(f"{name}_shortcut", (source,), kernel=1, stride=stride, bias=False, filters=filters)
        nodes += [projection, BatchNorm(f"{name}_shortcut_bn", (projection.name,))]
        shortcut = nodes[-1].name
    return [*nodes, Add(f"{name}_add", (f"{name}_conv2_bn", shortcut)), Relu(f"{name}_relu", (f"{name}_add",))]


def _inverted(
    name: str, source: str, size: int, channels: int, expansion: int, filters: int, kernel: int, stride: int
) -> tuple[list[Node], int]:
    """Expand, convolve by channel, project; the shortcut joins where the shape stays. Returns the nodes and the new size."""
    nodes: list[Node] = []
    last = source
    if expansion > 1:
        nodes, _ = _lite_conv(f"{name}_expand", source, size, filters=channels * expansion, kernel=1)
        last = nodes[-1].name
    depthwise, smaller = _lite_conv(f"{name}_dw", last, size, kernel=kernel, stride=stride)
    project, _ = _lite_conv(f"{name}_project", depthwise[-1].name, smaller, filters=filters, kernel=1)
    nodes += [*depthwise, *project[:2]]
    if stride == 1 and channels == filters:
        nodes.append(Add(f"{name}_add", (nodes[-1].name, source)))
    return nodes, smaller


def _lite_conv(
    name: str, source: str, size: int, *, kernel: int, stride: int = 1, filters: int | None = None
) -> tuple[list[Node], int]:
    """A convolution (depthwise without `filters`) with batch norm and ReLU6. Returns the nodes and the new size."""
    padding = same_padding(size, kernel, stride)
    layer: Node
    if filters is None:
        layer = DepthwiseConv2d(name, (source,), kernel, stride, padding, bias=False)
    else:
        layer = Conv2d(name, (source,), kernel, stride, padding, bias=False, filters=filters)
    norm = BatchNorm(f"{name}_bn", (name,), _TENSORFLOW_EPSILON)
    return [layer, norm, Relu6(f"{name}_relu", (norm.name,))], -(-size // stride)
