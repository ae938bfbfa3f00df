"""Loads a .keras or .h5 that a person brought, with nothing in it executed. Imported lazily."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras


def load(path: Path) -> Any:
    """The keras.Model, not compiled; Lambda layers and the like are refused by Keras' safe mode."""
    return keras.saving.load_model(path, compile=False, safe_mode=True)
