"""MatMulNBits: a dense layer whose weights are packed in blocks along its inputs, one scale a block.

Its activations stay float, or are rounded to int8 as it runs, block by block as well, where accuracy level 4 allows that and
the processor has the kernel; which of the two a processor does, only running it tells.

Source: ContribOperators.md of ONNX Runtime, com.microsoft.MatMulNBits
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from quantizers.onnxruntime.graph import attribute
from quantizers.schema import Integers

KIND = "MatMulNBits"
DOMAIN = "com.microsoft"
LEVEL = "accuracy_level"
INT8_LEVEL = 4
"""The accuracy level that allows int8 activations."""
_SMALL = 1e-3
"""Less than half a step of int8 beside 1, so that it is lost where activations are rounded."""


def rounds_activations(node: NodeProto) -> bool:
    """Whether a node allows its activations to be rounded to int8."""
    return node.op_type == KIND and attribute(node, LEVEL, 0) == INT8_LEVEL


@cache
def has_integer_kernel(bits: int, block: int) -> bool:
    """Whether this processor really computes such a node with integers: it is given what only rounding changes."""
    weight = pack(np.full((1, block), (1 << (bits - 1)) + 1), bits)[np.newaxis]
    constants: dict[str, NDArray[Any]] = {"weight": weight, "scale": np.ones((1, 1), np.float32)}
    shape: dict[str, Any] = {"K": block, "N": 1, "bits": bits, "block_size": block, LEVEL: INT8_LEVEL}
    node = helper.make_node(KIND, ["x", *constants], ["y"], domain=DOMAIN, **shape)
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, None]) for name in ("x", "y")]
    stored = [numpy_helper.from_array(values, name) for name, values in constants.items()]
    graph = helper.make_graph([node], "probe", ports[:1], ports[1:], stored)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.full((1, block), _SMALL, np.float32)
    x[0, 0] = 1
    (y,) = session.run(None, {"x": x})
    return bool(y.item() < 1 + _SMALL)


def pack(codes: Integers, bits: int) -> NDArray[np.uint8]:
    """Unsigned codes, 8 ÷ bits to a byte along the last axis, lowest bits first."""
    lanes = codes.astype(np.uint8).reshape(*codes.shape[:-1], -1, 8 // bits)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    packed: NDArray[np.uint8] = np.bitwise_or.reduce(lanes << shifts, axis=-1)
    return packed


def unpack(packed: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """The last axis grows by 8 ÷ bits."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    codes: NDArray[np.uint8] = (packed[..., np.newaxis] >> shifts & ((1 << bits) - 1)).astype(np.uint8)
    return codes.reshape(*packed.shape[:-1], -1)
