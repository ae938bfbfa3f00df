"""The signature that was settled for a model, written into it, so that an artefact explains itself to whoever opens it.

It goes into the model's metadata and not into the shapes of its inputs: a branch that is never taken may not fit those.
"""

from __future__ import annotations

import json
from dataclasses import asdict

from onnx import ModelProto

from quantizers.onnxruntime.session import SIGNATURE_KEY
from quantizers.signature import Signature


def declare(model: ModelProto, signature: Signature) -> None:
    """Writes the `signature` into the model, in place."""
    for entry in [entry for entry in model.metadata_props if entry.key == SIGNATURE_KEY]:
        model.metadata_props.remove(entry)
    entry = model.metadata_props.add()
    entry.key, entry.value = SIGNATURE_KEY, json.dumps(asdict(signature))
