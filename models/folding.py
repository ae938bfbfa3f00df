"""The weights that quantizers see: batch norms folded into the layers before them, as every backend does at first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.architecture import BatchNorm
from models.float_model import ZooModel


def folded_weights(model: ZooModel) -> dict[str, NDArray[np.float32]]:
    """The weight of every weighted layer by its name, output channels along the first axis.

    A batch norm scales each output channel of the layer it reads by γ / √(variance + ε).
    """
    factors = {node.inputs[0]: _factor(model, node) for node in model.architecture.nodes if isinstance(node, BatchNorm)}
    weights = {}
    for name in model.layer_names:
        weight = model.weights[f"{name}.weight"]
        factor = factors.get(name, np.ones(len(weight), np.float32))
        weights[name] = (weight * factor.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.float32)
    return weights


def _factor(model: ZooModel, norm: BatchNorm) -> NDArray[np.float32]:
    variance = model.weights[f"{norm.name}.running_var"].astype(np.float64) + norm.epsilon
    return (model.weights[f"{norm.name}.weight"] / np.sqrt(variance)).astype(np.float32)
