"""What all sides work on, as files: `python -m benchmarks.peers.material FOLDER`.

The PyTorch form is saved as a graph of PyTorch's own layers, so that reading it needs none of this project's classes.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.adapter import CALIBRATION, MODEL_ONNX, MODEL_TORCH, PHOTOS
from models import catalogue, datasets

MODEL, DATA, SAMPLES = "efficientnet-lite0", "photos", 64


def main(folder: Path) -> None:
    """Model in two forms and two splits of the photos."""
    import onnx
    import torch

    model, data = catalogue.load(MODEL), datasets.load(DATA)
    for split, name in (("test", PHOTOS), ("calibration", CALIBRATION)):
        photos = model.info.preprocess(data.split(split).take(SAMPLES).x)
        np.save(folder / name, np.ascontiguousarray(np.moveaxis(photos, -1, 1), np.float32))
    onnx.save(model.onnx_model(), folder / MODEL_ONNX)
    torch.save(plain_graph(model.torch_module()), folder / MODEL_TORCH)


def plain_graph(module: Any) -> Any:
    """A torch.fx graph of `module` with nothing but layers of torch.nn and functions in it."""
    from collections import OrderedDict

    from torch import fx, nn

    for name, layer in list(module.named_children()):
        if (uneven := getattr(layer, "uneven", None)) is not None:
            layer.__class__ = nn.Conv2d  # the same weights without the padding that its class adds
            setattr(module, name, nn.Sequential(OrderedDict(pad=nn.ZeroPad2d(uneven), conv=layer)))
    graph_module = fx.symbolic_trace(module)
    for node in graph_module.graph.nodes:
        node.type = None  # the annotations of our own source, which pickle could not name
    graph_module.recompile()
    return graph_module


if __name__ == "__main__":
    main(Path(sys.argv[1]))
