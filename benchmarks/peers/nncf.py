"""NNCF's accuracy control on an OpenVINO model: layers return to float until the drop is small enough."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.peers.adapter import CALIBRATION, MODEL_ONNX, THREADS, Found, Peer, Task, measured, serve

PEER = Peer(
    "nncf",
    "NNCF",
    "benchmarks.peers.nncf",
    {"accuracy_control": Task.SEARCH},
    ("nncf==3.4.0", "openvino==2026.4.1"),
)
MOST_DROP = 0.01
"""Of the share of photos with float's own top-1 answer."""


def accuracy_control(folder: Path) -> Found:
    """int8 where it may; what went back to float is not counted as a width, and thus judged as float16."""
    if hasattr(os, "sched_setaffinity"):  # it compiles models itself, on all the cores that it sees when it is imported
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
    import nncf  # type: ignore[import-not-found]
    import numpy as np
    import openvino  # type: ignore[import-not-found]

    photos = np.load(folder / CALIBRATION)
    model = openvino.Core().read_model(folder / MODEL_ONNX)
    compiled = openvino.compile_model(model)
    answers = [int(compiled(photo[None])[0].argmax()) for photo in photos]
    data = nncf.Dataset(list(zip(photos, answers, strict=True)), lambda item: item[0][None])

    def validate(network: Any, items: Iterable[Any]) -> tuple[float, None]:
        right = [network(photo[None])[0].argmax() == answer for photo, answer in items]
        return float(np.mean(right)), None

    found, seconds, peak = measured(
        lambda: nncf.quantize_with_accuracy_control(model, data, data, validate, max_drop=MOST_DROP, subset_size=len(photos))
    )
    bits = {
        node.get_friendly_name(): 8
        for node in found.get_ordered_ops()
        if node.get_type_name() in {"Convolution", "GroupConvolution", "MatMul"} and _is_quantized(node)
    }
    return Found(seconds, peak, layers=len(bits), bits=bits, note=f"drop ≤ {100 * MOST_DROP:g} points")


def _is_quantized(node: Any) -> bool:
    """Whether the weight comes out of a FakeQuantize or of int8 constants."""
    source, kinds = node.input_value(1).get_node(), []
    while True:
        kinds.append(source.get_type_name())
        if kinds[-1] == "Constant" or not source.inputs():
            return "FakeQuantize" in kinds or str(source.get_element_type()) in {"<Type: 'int8_t'>", "<Type: 'uint8_t'>"}
        source = source.input_value(0).get_node()


if __name__ == "__main__":
    serve({"accuracy_control": accuracy_control})
