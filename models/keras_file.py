"""Loads a .keras or .h5 that a person brought, with nothing in it executed. Imported lazily.

Keras 3 reads the .h5 of Keras 2 but for three kinds of convolution, whose settings Keras 2 wrote with those of a plain one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

_KERNEL = ("kernel_initializer", "kernel_regularizer", "kernel_constraint")


def load(path: Path) -> Any:
    """The keras.Model, not compiled; Lambda layers and the like are refused by Keras' safe mode."""
    kinds = (
        _older(keras.layers.DepthwiseConv2D),
        _older(keras.layers.SeparableConv2D, *_KERNEL),
        _older(keras.layers.Conv2DTranspose),
    )
    known = {kind.__name__: kind for kind in kinds}
    return keras.saving.load_model(path, custom_objects=known, compile=False, safe_mode=True)


def _older(kind: Any, *others: str) -> Any:
    """A layer's class that leaves out settings which have no effect on it: `groups` of 1, and `others`."""

    def from_config(cls: Any, config: Mapping[str, Any]) -> Any:
        left_out = {*others, *(["groups"] if config.get("groups") == 1 else [])}
        return kind.from_config.__func__(cls, {name: value for name, value in config.items() if name not in left_out})

    return type(kind.__name__, (kind,), {"from_config": classmethod(from_config)})
