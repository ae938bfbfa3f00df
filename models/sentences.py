"""Bundled English sentences as tokens, for error against float of models that read text; no labels.

One line of `data/sentences.txt` is a sentence. The tokenizer is that of the model's own package.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models import minilm
from models.samples import Dataset, LoadedDataset, Split, with_digest

ID = "sentences"
_FILE = Path(__file__).parent / "data" / "sentences.txt"
_CALIBRATION_SHARE = 0.36


@cache
def texts() -> tuple[str, ...]:
    """The sentences; some are close in meaning to their neighbour."""
    return tuple(_FILE.read_text("utf-8").splitlines())


def describe() -> Dataset:
    calibration = round(len(texts()) * _CALIBRATION_SHARE)
    return Dataset(
        id=ID,
        title="Sentences",
        summary=f"{len(texts())} short English sentences of many subjects as {minilm.TOKENS} tokens each; no labels.",
        licence="CC0 1.0 (written for this project)",
        shape=minilm.SIGNATURE.sample_shape,
        labels=None,
        splits={Split.CALIBRATION.value: calibration, Split.TEST.value: len(texts()) - calibration},
        why_not=minilm.why_not(minilm.PACKAGE, minilm.TOKENIZER),
    )


def load() -> LoadedDataset:
    """The sentences as packed rows."""
    info = describe()
    order = np.random.default_rng(0).permutation(len(texts()))
    first = info.splits[Split.CALIBRATION]
    rows = {Split.CALIBRATION.value: np.sort(order[:first]), Split.TEST.value: np.sort(order[first:])}
    return with_digest(info, tokenized(texts()), None, rows)


def tokenized(words: Sequence[str]) -> NDArray[np.float32]:
    """Sentences as rows [N, 2 · tokens]: ids, then the mask of what is no padding; the rest of a longer one is cut off."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(minilm.file("tokenizer.json")))
    tokenizer.enable_truncation(minilm.TOKENS)
    tokenizer.enable_padding(length=minilm.TOKENS)
    encoded = tokenizer.encode_batch(list(words))
    ids, mask = (np.array([getattr(one, name) for one in encoded], np.int64) for name in ("ids", "attention_mask"))
    return minilm.SIGNATURE.pack({minilm.IDS: ids, minilm.MASK: mask})
