"""What ONNX Runtime needs of a trained Q/DQ file besides the integers, in order to compute with them.

A residual addition: PyTorch trains the convolution in front of one without a grid, because oneDNN adds the shortcut to its sums
before anything is rounded. ONNX Runtime has integer kernels only for what reads codes and writes codes, and would leave both in
float. So the file gets one rounding that training did not see, over the range that the convolution's output has on samples.

A dense layer whose output is float, as the last one: its bias has to be in int32, on the grid of the products.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, ValueInfoProto, helper, numpy_helper

from quantizers.adapter import Batch
from quantizers.numerics import min_max_params
from quantizers.onnxruntime.graph import Graph
from quantizers.onnxruntime.reader import read
from quantizers.onnxruntime.session import OnnxSession
from quantizers.schema import Scheme

_BATCH = 32


def round_before_additions(model: ModelProto, samples: Batch) -> list[str]:
    """Puts uint8 codes between such convolutions and their additions, in place.

    Returns:
        The names of the convolutions.
    """
    places = _places(model)
    ranges = _ranges(model, [add.input[place] for add, place in places], samples) if places else {}
    names = []
    for add, place in places:
        output = add.input[place]
        names.append(next(node.name for node in model.graph.node if output in node.output))
        _insert(model, add, place, *ranges[output])
    return names


def biases_as_integers(model: ModelProto) -> None:
    """Gives dense layers of int8 weights and quantized inputs int32 biases in steps of input scale × weight scale, in place."""
    nodes = {node.name: node for node in model.graph.node}
    for op in read(model):
        source, weight = op.input.params, op.weight.params
        if op.kind != "Gemm" or op.weight.dtype != "int8" or source is None or weight is None:
            continue
        if op.bias is None or op.bias.data is None or op.bias.params is not None:
            continue
        step = np.broadcast_to(source.scale * weight.scale, op.bias.data.shape).astype(np.float32)
        name = f"{op.name}.bias_int32"
        stored: dict[str, NDArray[Any]] = {name: np.rint(op.bias.data / step).astype(np.int32), f"{name}_scale": step}
        model.graph.initializer.extend(numpy_helper.from_array(values, key) for key, values in stored.items())
        real = helper.make_node("DequantizeLinear", [*stored], [f"{name}_real"], name=f"{name}_DequantizeLinear", axis=0)
        model.graph.node.insert(0, real)
        nodes[op.name].input[2] = real.output[0]


def _places(model: ModelProto) -> list[tuple[NodeProto, int]]:
    """Additions with the number of the input that a quantized convolution gives in float, the other being of codes."""
    graph, found = Graph(model), []
    for add in model.graph.node:
        if add.op_type != "Add" or len(add.input) != 2:
            continue
        for place, other in ((0, 1), (1, 0)):
            convolution = graph.producer(add.input[place], "Conv")
            quantized = convolution is not None and graph.producer(convolution.input[0], "DequantizeLinear") is not None
            alone = len(graph.readers(add.input[place])) == 1
            if quantized and alone and graph.producer(add.input[other], "DequantizeLinear") is not None:
                found.append((add, place))
    return found


def _ranges(model: ModelProto, tensors: list[str], samples: Batch) -> dict[str, tuple[float, float]]:
    """The smallest and the largest value of each tensor over the samples."""
    observed = ModelProto()
    observed.CopyFrom(model)
    observed.graph.output.extend(ValueInfoProto(name=name) for name in tensors)
    session = OnnxSession(observed.SerializeToString())
    low, high = np.zeros(len(tensors)), np.zeros(len(tensors))
    for start in range(0, len(samples), _BATCH):
        values = session.tensors(tensors, session.prepare(samples[start : start + _BATCH]))
        low = np.minimum(low, [value.min() for value in values])
        high = np.maximum(high, [value.max() for value in values])
    return dict(zip(tensors, zip(low.tolist(), high.tolist(), strict=True), strict=True))


def _insert(model: ModelProto, add: NodeProto, place: int, low: float, high: float) -> None:
    output = add.input[place]
    params = min_max_params(np.array([low, high]), 8, scheme=Scheme.AFFINE)
    grid: dict[str, NDArray[Any]] = {
        f"{output}_scale": params.scale.astype(np.float32).reshape(()),
        f"{output}_zero_point": (params.zero_point - params.qmin).astype(np.uint8).reshape(()),
    }
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in grid.items())
    steps = ("QuantizeLinear", output, f"{output}_codes"), ("DequantizeLinear", f"{output}_codes", f"{output}_rounded")
    at = next(index for index, node in enumerate(model.graph.node) if node is add or node.name == add.name)
    for kind, source, target in reversed(steps):
        model.graph.node.insert(at, helper.make_node(kind, [source, *grid], [target], name=f"{target}_{kind}"))
    add.input[place] = steps[-1][2]
