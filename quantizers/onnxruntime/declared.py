"""What an .onnx says of its inputs, and making it say what a signature has settled, so that an artefact explains itself."""

from __future__ import annotations

from onnx import ModelProto, TensorProto, helper

from quantizers.onnxruntime.session import BATCH_AXIS, LAYOUT_KEY
from quantizers.signature import Signature


def declare(model: ModelProto, signature: Signature) -> None:
    """Writes shapes and layout of the `signature` into the model, in place: a batch of any size stays a free axis."""
    declared = {one.name: one for one in signature.inputs}
    for port in model.graph.input:
        if port.name not in declared:
            continue  # Older files list their weights among the inputs.
        shape: list[int | str] = list(declared[port.name].shape)
        if signature.batched and shape:
            shape[0] = BATCH_AXIS
        port.type.tensor_type.shape.CopyFrom(helper.make_tensor_type_proto(TensorProto.FLOAT, shape).tensor_type.shape)
    entry = model.metadata_props.add()
    entry.key, entry.value = LAYOUT_KEY, signature.layout.value
