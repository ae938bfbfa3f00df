"""The PyTorch form of a sentence encoder. Imported lazily, because of torch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.transformer import EMBEDDINGS, LINEAR, Transformer

_PRESENT = 0.5
"""A token counts where the mask is above."""
_HIDDEN = -1e4
"""The score of padding: finite in float16, and nothing is left of it in a softmax."""


class TransformerForm(nn.Module):
    """Takes packed rows [N, 2 · tokens] float32, ids and then mask, and returns embeddings [N, width] of length 1.

    Nothing in it depends on a float type, so that a copy in 16 bits computes in 16 bits; the rows stay float32, for float16
    cannot tell the ids of words apart.
    """

    def __init__(self, design: Transformer) -> None:
        super().__init__()
        self.design = design
        for name in EMBEDDINGS:
            self.add_module(name, nn.Embedding(design.weight_shapes[f"{name}.weight"][0], design.width))
        self.norm = nn.LayerNorm(design.width, eps=design.epsilon)
        for block in range(design.blocks):
            self.add_module(f"block{block}", _Block(design))

    def forward(self, rows: Tensor) -> Tensor:
        tokens = self.design.tokens
        present = rows[:, tokens:] > _PRESENT
        embeddings = [getattr(self, name) for name in EMBEDDINGS]
        words = embeddings[0](rows[:, :tokens].to(torch.int64))
        x = self.norm(words + embeddings[1].weight[:tokens] + embeddings[2].weight[0])
        for block in range(self.design.blocks):
            x = getattr(self, f"block{block}")(x, present)
        total = x.masked_fill(~present.unsqueeze(2), 0).sum(1)
        return functional.normalize(total / present.sum(1, keepdim=True).clamp(min=1), dim=1)


class _Block(nn.Module):
    """Attention, then two dense layers; a normalized residual around each."""

    def __init__(self, design: Transformer) -> None:
        super().__init__()
        self.heads = design.heads
        self.query, self.key, self.value, self.attention, self.expand, self.contract = (
            nn.Linear(into, out) for out, into in map(design.sizes, LINEAR)
        )
        self.attention_norm, self.output_norm = (nn.LayerNorm(design.width, eps=design.epsilon) for _ in range(2))

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        x = self.attention_norm(x + self.attention(self._attend(x, present)))
        changed: Tensor = self.output_norm(x + self.contract(functional.gelu(self.expand(x))))
        return changed

    def _attend(self, x: Tensor, present: Tensor) -> Tensor:
        query, key, value = (self._split(layer(x)) for layer in (self.query, self.key, self.value))
        scores = query @ key.transpose(2, 3) * query.shape[3] ** -0.5
        shares = scores.masked_fill(~present[:, None, None, :], _HIDDEN).softmax(3)
        attended: Tensor = (shares @ value).transpose(1, 2).flatten(2)
        return attended

    def _split(self, x: Tensor) -> Tensor:
        """[N, tokens, width] → [N, heads, tokens, width of a head]"""
        return x.reshape(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)


def build(design: Transformer, weights: Mapping[str, NDArray[np.float32]]) -> TransformerForm:
    """The module in eval mode with copies of `weights`."""
    module = TransformerForm(design)
    module.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in weights.items()})
    return module.eval()
