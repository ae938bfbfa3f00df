"""The data directory, which runs share with models and data of a person's own."""

from __future__ import annotations

from models.home import home

__all__ = ["home"]
