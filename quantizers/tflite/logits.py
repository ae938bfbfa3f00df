"""The values that a softmax at the end of a .tflite reads: what answers are compared by, in float files and quantized ones.

TFLite stores every int8 softmax in steps of 1/256: what is less likely than one in 512 becomes zero, and all that is nearly
certain the same, which would show as an error of the layers before it. Which class is the likeliest stays as it is. Time is
measured on the whole file.

Source: https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/quantization_spec
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert.tools import flatbuffer_utils

from quantizers.tflite.reader import kind_of, parse

WHY = "Compared by what the softmax at the end reads, because int8 stores what it gives in steps of 1/256."
_CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")


def without_softmax(content: bytes) -> bytes | None:
    """The file with what its last softmax operations read in place of what they give; None where no output is of a softmax."""
    model = parse(content)
    graph = model.subgraphs[0]
    read_instead = {tensor: source for tensor in map(int, graph.outputs) if (source := _logits(model, tensor)) is not None}
    if not read_instead:
        return None
    graph.outputs = np.array([read_instead.get(int(tensor), tensor) for tensor in graph.outputs], np.int32)
    for signature in model.signatureDefs or ():
        for port in signature.outputs if signature.subgraphIndex == 0 else ():
            port.tensorIndex = read_instead.get(port.tensorIndex, port.tensorIndex)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _logits(model: Any, tensor: int) -> int | None:
    """What the softmax that gives an output reads; None where the output comes from something else."""
    maker = {int(made): operation for operation in model.subgraphs[0].operators for made in operation.outputs}
    operation = maker.get(tensor)
    while operation is not None and kind_of(model, operation) in _CONVERSIONS:
        operation = maker.get(int(operation.inputs[0]))
    if operation is None or kind_of(model, operation) != "SOFTMAX":
        return None
    return int(operation.inputs[0]) if operation.builtinOptions.beta == 1 else None
