"""A BERT-like sentence encoder as data: its sizes, its layers and the names of their weights. Light; the forms build on it.

Devlin et al. 2019, arXiv:1810.04805, with what sentence embeddings add: the mean over the tokens of the last layer, scaled to
length 1 (Reimers and Gurevych 2019, arXiv:1908.10084).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

Shape = tuple[int, ...]

LINEAR = ("query", "key", "value", "attention", "expand", "contract")
"""The dense layers of one block, in execution order."""
NORMS = ("attention_norm", "output_norm")
EMBEDDINGS = ("words", "positions", "types")


@dataclass(frozen=True)
class Transformer:
    """An encoder of `blocks` equal blocks, for sentences of exactly `tokens` tokens, padding included."""

    vocabulary: int
    places: int
    types: int
    width: int
    heads: int
    inner: int
    blocks: int
    tokens: int
    epsilon: float

    @cached_property
    def layer_names(self) -> tuple[str, ...]:
        """The dense layers, in execution order."""
        return tuple(f"block{block}.{name}" for block in range(self.blocks) for name in LINEAR)

    @cached_property
    def weight_shapes(self) -> Mapping[str, Shape]:
        """Every weight's shape by name, dense ones [out, in]."""
        rows = dict(zip(EMBEDDINGS, (self.vocabulary, self.places, self.types), strict=True))
        shapes: dict[str, Shape] = {f"{name}.weight": (rows[name], self.width) for name in EMBEDDINGS}
        shapes |= {f"norm.{key}": (self.width,) for key in ("weight", "bias")}
        for block in range(self.blocks):
            for name in LINEAR:
                out, into = self.sizes(name)
                shapes |= {f"block{block}.{name}.weight": (out, into), f"block{block}.{name}.bias": (out,)}
            shapes |= {f"block{block}.{name}.{key}": (self.width,) for name in NORMS for key in ("weight", "bias")}
        return shapes

    def sizes(self, layer: str) -> tuple[int, int]:
        """Outputs and inputs of a dense layer of a block."""
        wide = {"expand": (self.inner, self.width), "contract": (self.width, self.inner)}
        return wide.get(layer, (self.width, self.width))
