"""Looks into a .tflite: reads the flatbuffer, then runs it once with LiteRT; runs in the limited process only."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from models.entry import signature_of
from models.inspect_process import Request
from models.inspection import Inspection, Port
from quantizers.errors import BadData, BadModel, Unsupported
from quantizers.schema import Backend
from quantizers.signature import Signature
from quantizers.tflite.file import Contents, StoredTensor, delegated, read_file

_WEIGHTS = ("float32", "float16", "int8", "uint8", "int4", "int2", "int16")


def inspect(path: Path, request: Request) -> Inspection:
    """Tensors, operations and layers of the file; what the delegate takes, and whether samples can be run together.

    A model that LiteRT refuses is still described: the refusal is why it cannot be quantized.

    Raises:
        BadModel: the file is no .tflite, or contradicts itself.
    """
    contents = read_file(path.read_bytes())
    inputs = tuple(_port(contents.tensors[index]) for index in contents.inputs)
    why_not, batched, size, notes, taken = contents.why_not, None, None, list(contents.problems), frozenset[int]()
    try:
        taken = delegated(contents.content)
        signature = signature_of(inputs, request.shapes, None, None)
        if len(inputs) == 1:
            batched, size = _run(contents, signature)
    except (BadData, Unsupported) as error:
        notes.append(error.message)
    except (RuntimeError, ValueError) as error:  # LiteRT's own
        why_not = why_not or f"LiteRT does not run the model: {_first_line(error)}"
        notes.append(f"LiteRT does not run the model: {_first_line(error)}")
    return Inspection(
        inputs=inputs,
        outputs=tuple(_port(contents.tensors[index]) for index in contents.outputs),
        parameters=sum(math.prod(tensor.shape) for tensor in contents.tensors if tensor.constant and tensor.dtype in _WEIGHTS),
        layers=tuple(contents.kernels()),
        quantized=_is_reduced(contents),
        backends={} if why_not is None else {Backend.TFLITE: why_not},
        batched=batched,
        output_size=size,
        facts=_facts(contents, taken),
        notes=tuple(notes),
    )


def _is_reduced(contents: Contents) -> bool:
    return any(tensor.constant and (tensor.scale or tensor.dtype == "float16") for tensor in contents.tensors)


def _port(tensor: StoredTensor) -> Port:
    return Port(tensor.name, tensor.dtype, tuple(None if size < 0 else size for size in tensor.shape))


def _run(contents: Contents, signature: Signature) -> tuple[bool, int]:
    """Whether two samples can be run together with the result of each alone, and the length of a sample's output."""
    from quantizers.tflite.runtime import LiteRTSession

    samples = np.random.default_rng(0).random((2, *signature.sample_shape), np.float32)
    session = LiteRTSession(contents.content)
    alone = session.logits(session.run(session.prepare(samples[:1])))
    if not np.isfinite(alone).all():
        raise BadModel("The model computes NaN or infinity.", "Check its weights.")
    try:
        together = session.logits(session.run(session.prepare(samples)))
    except (RuntimeError, ValueError):  # LiteRT's own: the batch is fixed somewhere inside
        return False, alone.shape[1]
    same = together.shape == (2, alone.shape[1]) and np.allclose(together[:1], alone, 1e-3, 1e-3)
    return bool(same), alone.shape[1]


def _facts(contents: Contents, taken: frozenset[int]) -> dict[str, Any]:
    nodes, edges = contents.graph()
    return {
        "description": contents.description,
        "operations": dict(Counter(op.kind for op in contents.operations).most_common()),
        "runs_in": dict(Counter(op.runs_in for op in contents.operations).most_common()),
        "xnnpack": f"{len(taken)} of {len(contents.operations)} operations",
        "graph": {"nodes": [{**node, "xnnpack": node["id"] in taken} for node in nodes], "edges": edges},
        "tensors": [asdict(tensor) for tensor in contents.tensors],
    }


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
