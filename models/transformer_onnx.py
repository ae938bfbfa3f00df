"""The ONNX form of a sentence encoder: written operation by operation under the layers' own names. Imported lazily."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper

from models.onnx_form import BATCH, IR_VERSION, OPSET
from models.transformer import EMBEDDINGS, LINEAR, Transformer

Arrays = Mapping[str, NDArray[np.float32]]
OUTPUT = "embedding"
_MASKED = np.float32(-1e9)
"""Added to the scores of padding; the softmax of what is left of it is 0."""


def build(design: Transformer, weights: Arrays, inputs: tuple[str, str]) -> ModelProto:
    """A model that takes ids and mask, [batch, tokens] int64 each, and returns OUTPUT [batch, width] of length 1."""
    graph = _Graph(design, dict(weights))
    graph.write(*inputs)
    made = helper.make_graph(
        graph.nodes,
        "sentence_encoder",
        [helper.make_tensor_value_info(name, TensorProto.INT64, [BATCH, design.tokens]) for name in inputs],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [BATCH, design.width])],
        [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in graph.constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    checker.check_model(model, full_check=True)
    return model


class _Graph:
    """Nodes and constants so far. Dense weights are stored [in, out], as MatMul takes them."""

    def __init__(self, design: Transformer, weights: dict[str, NDArray[np.float32]]) -> None:
        self.design = design
        self.nodes: list[NodeProto] = []
        tables = {f"{name}.weight" for name in EMBEDDINGS}
        dense = {f"{name}.weight" for name in design.layer_names}
        self.constants: dict[str, NDArray[np.generic]] = {
            name: array.T if name in dense else array for name, array in weights.items() if name not in tables
        }
        self.constants["words.weight"] = weights["words.weight"]
        self.constants["places"] = weights["positions.weight"][: design.tokens] + weights["types.weight"][0]

    def write(self, ids: str, mask: str) -> None:
        words = self._add("Gather", "words", ["words.weight", ids])
        x = self._norm("norm", self._add("Add", "embedded", [words, "places"]))
        present = self._add("Cast", "present", [mask], to=TensorProto.FLOAT)
        absent = self._add("Sub", "absent", [self._constant("one", np.float32(1)), present])
        row = self._add("Unsqueeze", "absent_row", [absent, self._constant("axes_1_2", np.array([1, 2]))])
        hidden = self._add("Mul", "hidden", [row, self._constant("masked", _MASKED)])
        for block in range(self.design.blocks):
            x = self._block(f"block{block}", x, hidden)
        self._pool(x, present)

    def _block(self, name: str, x: str, hidden: str) -> str:
        query, key, value = (self._split(f"{name}.{part}", x, part) for part in LINEAR[:3])
        scale = self._constant("scale", np.float32((self.design.width // self.design.heads) ** -0.5))
        scores = self._add("MatMul", f"{name}.scores", [query, key])
        shown = self._add("Add", f"{name}.shown", [self._add("Mul", f"{name}.scaled", [scores, scale]), hidden])
        shares = self._add("Softmax", f"{name}.shares", [shown], axis=-1)
        read = self._add("MatMul", f"{name}.read", [shares, value])
        joined = self._add("Transpose", f"{name}.read_back", [read], perm=[0, 2, 1, 3])
        flat = self._constant("flat", np.array([0, 0, self.design.width]))
        attended = self._dense(f"{name}.attention", self._add("Reshape", f"{name}.joined", [joined, flat]))
        x = self._norm(f"{name}.attention_norm", self._add("Add", f"{name}.attended", [x, attended]))
        wide = self._add("Gelu", f"{name}.gelu", [self._dense(f"{name}.expand", x)])
        narrow = self._dense(f"{name}.contract", wide)
        return self._norm(f"{name}.output_norm", self._add("Add", f"{name}.output", [x, narrow]))

    def _split(self, layer: str, x: str, part: str) -> str:
        """A layer's output by heads; keys are transposed for the product of queries and keys."""
        design = self.design
        heads = self._constant("heads", np.array([0, 0, design.heads, design.width // design.heads]))
        split = self._add("Reshape", f"{layer}_heads", [self._dense(layer, x), heads])
        return self._add("Transpose", f"{layer}_split", [split], perm=[0, 2, 3, 1] if part == "key" else [0, 2, 1, 3])

    def _pool(self, x: str, present: str) -> None:
        """The mean over the tokens that are there, scaled to length 1."""
        last, middle = self._constant("axis_2", np.array([2])), self._constant("axis_1", np.array([1]))
        column = self._add("Unsqueeze", "present_column", [present, last])
        total = self._add("ReduceSum", "total", [self._add("Mul", "kept", [x, column]), middle], keepdims=0)
        count = self._add("ReduceSum", "count", [present, middle], keepdims=1)
        mean = self._add("Div", "mean", [total, count])
        length = self._add("ReduceL2", "length", [mean, middle], keepdims=1)
        self._add("Div", OUTPUT, [mean, length])

    def _dense(self, name: str, x: str) -> str:
        product = self._add("MatMul", name, [x, f"{name}.weight"])
        return self._add("Add", f"{name}_biased", [product, f"{name}.bias"])

    def _norm(self, name: str, x: str) -> str:
        sources = [x, f"{name}.weight", f"{name}.bias"]
        return self._add("LayerNormalization", name, sources, axis=-1, epsilon=self.design.epsilon)

    def _constant(self, name: str, value: NDArray[np.generic] | np.float32) -> str:
        self.constants[name] = np.asarray(value)
        return name

    def _add(self, kind: str, name: str, inputs: list[str], **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name
