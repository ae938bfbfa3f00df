"""Models of torchvision and timm: listed without importing either, loaded from the libraries' own caches, quantized for real.

The weights here are untrained, written from a seed into a cache of the test's own: what is tested is the way they take.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from models import catalogue, datasets, library
from models.library import Facts, Library
from models.samples import Split
from quantizers.adapter import Request
from quantizers.capabilities import resolve_options
from quantizers.errors import BadModel, UnknownName, Unsupported
from quantizers.numerics import tensor_error
from quantizers.registry import get
from quantizers.schema import Backend, Execution, Technique

RESNET, TIMM_RESNET = "torchvision-resnet18", "timm-resnet18"
missing = [name for name in ("torchvision", "timm") if find_spec(name) is None]
needs_libraries = pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)} (requirements-samples.txt)")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTSCOPE_HOME", str(tmp_path / "home"))


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches of both libraries."""
    for name, value in {"TORCH_HOME": "torch", "HF_HUB_CACHE": "hub"}.items():
        monkeypatch.setenv(name, str(tmp_path / value))
    return tmp_path


def place_of(facts: Facts, caches: Path) -> Path:
    """Where the library would leave what it downloads."""
    if facts.library is Library.TORCHVISION:
        return caches / "torch" / "hub" / "checkpoints" / facts.place.rpartition("/")[2]
    return caches / "hub" / f"models--{facts.place.replace('/', '--')}" / "snapshots" / "0123abc" / "model.safetensors"


def write_untrained(model_id: str, caches: Path) -> Any:
    """Puts seeded weights into the cache and returns the module that has them."""
    import torch
    from safetensors.torch import save_file

    facts = library.facts_of(model_id)
    torch.manual_seed(0)
    module = library.build(facts)[0].eval()
    place = place_of(facts, caches)
    place.parent.mkdir(parents=True)
    (torch.save if place.suffix == ".pth" else save_file)(module.state_dict(), place)
    return module


def listed(model_id: str) -> Any:
    return next(info for info in catalogue.catalogue() if info.id == model_id)


def test_without_a_library_its_models_are_listed_with_the_command_that_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "find_spec", lambda name: None)
    for model_id in (RESNET, TIMM_RESNET):
        info = listed(model_id)
        assert "not installed here: pip install --no-deps" in str(info.why_not)
        assert f"{info.id.partition('-')[0]}==" in str(info.why_not)
        with pytest.raises(Unsupported, match="not installed here"):
            catalogue.load(model_id)
        with pytest.raises(Unsupported, match="not installed here"):
            library.fetch(model_id)


def test_a_library_made_for_another_pytorch_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "find_spec", lambda name: object())
    monkeypatch.setattr(library, "version", {"torch": "2.13.0+cpu", "torchvision": "0.20.1"}.__getitem__)
    monkeypatch.setattr(library, "requires", lambda name: ["numpy", "torch==2.5.1"])
    assert "torchvision 0.20.1 needs torch==2.5.1, and 2.13.0 is installed" in str(listed(RESNET).why_not)
    monkeypatch.setattr(library, "requires", lambda name: ["numpy", "torch==2.13.0"])
    assert "2.13.0 is installed" not in str(listed(RESNET).why_not)


def test_the_layers_are_known_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "find_spec", lambda name: None)
    layers = catalogue.layer_names(RESNET)
    assert (len(layers), layers[0], layers[-1]) == (21, "conv1", "fc")
    with pytest.raises(UnknownName):
        library.facts_of("torchvision-resnet19")


def test_listing_imports_neither_library_nor_torch() -> None:
    code = (
        "import sys; from models import catalogue; print(len(catalogue.catalogue()));"
        "print(*{m.partition('.')[0] for m in sys.modules} & {'torch', 'torchvision', 'timm', 'huggingface_hub'})"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    count, heavy = run.stdout.split("\n")[:2]
    assert int(count) >= len(library.known())
    assert heavy == ""


@needs_libraries
def test_weights_that_are_not_cached_are_told_with_the_command_that_fetches_them(caches: Path) -> None:
    for model_id in (RESNET, TIMM_RESNET):
        assert f"python -m models.library {model_id} downloads them (4" in str(listed(model_id).why_not)
        with pytest.raises(Unsupported, match="not in the cache") as caught:
            catalogue.load(model_id)
        assert caught.value.hint == f"python -m models.library {model_id}"


@needs_libraries
def test_a_download_that_fails_says_what_and_what_to_do(caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def offline(url: str, *_: object, **__: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(Unsupported, match=r"resnet18-f37072fd\.pth: Name or service not known") as caught:
        library.fetch(RESNET)
    assert "connection to the internet" in caught.value.hint


@needs_libraries
def test_a_download_lands_in_the_librarys_cache(caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    module = write_untrained(RESNET, caches)
    place = place_of(library.facts_of(RESNET), caches)
    content = place.read_bytes()
    place.unlink()
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda url, dst, *_, **__: Path(dst).write_bytes(content))
    assert library.fetch(RESNET) == place
    found = catalogue.load(RESNET).torch_module().state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in module.state_dict().items())


@needs_libraries
@pytest.mark.parametrize("model_id", sorted(library.known()))
def test_what_is_listed_is_what_the_library_says(model_id: str) -> None:
    facts = library.facts_of(model_id)
    module, mean, std = library.build(facts)
    assert sum(parameter.numel() for parameter in module.parameters()) == facts.parameters
    assert (tuple(mean), tuple(std)) == (facts.mean, facts.std)
    assert set(facts.layers) <= {name for name, _ in module.named_modules()}


@needs_libraries
def test_a_file_of_other_weights_is_refused(caches: Path) -> None:
    import torch

    place = place_of(library.facts_of(RESNET), caches)
    place.parent.mkdir(parents=True)
    torch.save({"conv1.weight": torch.zeros(3)}, place)
    with pytest.raises(BadModel, match="does not hold the weights"):
        catalogue.load(RESNET)


@needs_libraries
def test_both_caches_give_what_was_written_there(caches: Path) -> None:
    import torch

    for model_id in (RESNET, TIMM_RESNET):
        module, model = write_untrained(model_id, caches), catalogue.load(model_id)
        x = datasets.load("photos").split(Split.TEST).x[:1]
        batch = torch.from_numpy(model.info.preprocess(x).transpose(0, 3, 1, 2).copy())
        with torch.inference_mode():
            assert torch.equal(model.torch_module()(batch), module(batch))
        assert model.info.available
        with pytest.raises(Unsupported, match="PyTorch code"):
            model.onnx_model()


@needs_libraries
@pytest.mark.adapter
def test_resnet18_of_torchvision_is_quantized_on_photos(caches: Path, tmp_path: Path) -> None:
    import torch

    write_untrained(RESNET, caches)
    model, technique = catalogue.load(RESNET), Technique.parse("static_wi8_ai8")
    photos = datasets.load("photos")
    datasets.check_fits(photos.split(Split.TEST), model.info)
    calibration, test = (model.info.preprocess(photos.split(split).take(4).x) for split in (Split.CALIBRATION, Split.TEST))
    (tmp_path / "work").mkdir()
    request = Request(technique, resolve_options(Backend.PYTORCH, technique, {}), calibration, tmp_path / "work")
    quantized = get(Backend.PYTORCH).quantize(model, request, lambda fraction, words: None)
    layers = quantized.layers()
    assert tuple(layer.name for layer in layers) == model.layer_names
    if quantized.execution is Execution.NATIVE:
        assert [layer.runs_in for layer in layers] == ["int8"] * len(layers)
    with torch.inference_mode():
        expected = model.torch_module()(torch.from_numpy(test.transpose(0, 3, 1, 2).copy())).numpy()
    assert tensor_error(expected, quantized.predict(test)).sqnr_db > 25
