"""Programs of PyTorch that people bring: nothing of one runs before a person says that it is trusted; then it is quantized."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from models import _inspect_pt2, _inspect_torchscript, catalogue, mine, torch_file
from models.entry import signature_of
from models.float_model import Kind
from models.inspect_process import Request
from models.inspection import Inspection
from quantizers.errors import BadModel, Unsupported
from quantizers.schema import Backend, Technique

pytestmark = [
    pytest.mark.adapter,
    # torch.jit is deprecated as a whole, and torch decomposes programs with a class that it has deprecated.
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore:.*torch.jit:FutureWarning"),
]


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTSCOPE_HOME", str(tmp_path / "home"))


class Net(nn.Module):
    """28 × 28 grey pixels to ten classes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.dense = nn.Conv2d(1, 4, 5, stride=2), nn.BatchNorm2d(4), nn.Linear(4 * 12 * 12, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        return self.dense(x.view(x.shape[0], -1))


class Flat(Net):
    """The same, by operations that depend on no layout in memory."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dense(torch.relu(self.norm(self.conv(x))).flatten(1))


class Words(nn.Module):
    """Two inputs, of which one picks rows of a table."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.dense = nn.Embedding(7, 6), nn.Linear(6, 3)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": self.dense((self.table(ids) * mask.unsqueeze(-1)).mean(1))}


class Mixing(nn.Module):
    """Its answer to a sample depends on the others."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dense(x.reshape(6, -1).t())


IMAGE = (torch.zeros(1, 1, 28, 28),)


def saved(
    tmp_path: Path, kind: str, module: nn.Module | None = None, example: tuple[torch.Tensor, ...] = IMAGE, **shapes: Any
) -> Path:
    path, module = tmp_path / f"net.{kind}", (module or Net()).eval()
    if kind == "pt2":
        torch.export.save(torch.export.export(module, example, **shapes), path)
    elif kind == "decomposed":
        torch.export.save(torch.export.export(Flat().eval(), example).run_decompositions(), path)
    else:
        program = torch.jit.trace(module, example) if kind == "traced" else torch.jit.script(module)
        torch.jit.save(program, path)
    return path


class Evil:
    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self._mark}",)


@pytest.mark.parametrize("kind", ["pt2", "scripted"])
def test_without_trust_a_program_is_refused_and_the_switch_is_named(tmp_path: Path, kind: str) -> None:
    with pytest.raises(Unsupported, match="code of its own") as caught:
        mine.add(saved(tmp_path, kind), f"net.{kind}")
    assert "--trust" in caught.value.hint
    assert "My models" in caught.value.hint
    assert mine.catalogue() == ()


def test_a_pickle_in_a_pt2_is_only_run_when_a_person_trusts_the_file(tmp_path: Path) -> None:
    plain, evil, mark = saved(tmp_path, "pt2"), tmp_path / "evil.pt2", tmp_path / "ran"
    stream = io.BytesIO()
    torch.save(Evil(mark), stream)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(evil, "w") as target:
        for name in source.namelist():
            target.writestr(name, stream.getvalue() if name.endswith("sample_inputs/model.pt") else source.read(name))
    with pytest.raises(Unsupported, match="code of its own"):
        mine.add(evil, "evil.pt2")
    assert not mark.exists()
    with contextlib.suppress(BadModel):
        mine.add(evil, "evil.pt2", trusted=True)
    assert mark.exists(), "the file does not hold what this test is about"


def test_a_pickle_that_says_it_is_a_checkpoint_is_refused_with_trust_too(tmp_path: Path) -> None:
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    with pytest.raises(Unsupported, match="code of its own"):
        mine.add(tmp_path / "evil.pt", "evil.pt", trusted=True)
    assert not (tmp_path / "ran").exists()


def test_trust_is_remembered_and_without_it_nothing_is_loaded(tmp_path: Path) -> None:
    path = saved(tmp_path, "pt2")
    info = mine.add(path, "net.pt2", trusted=True)
    assert (info.kind, info.input_shape, info.classes, info.available) == (Kind.PT2, (28, 28, 1), 10, True)
    assert mine.entry(info.id).trusted
    assert mine.add(path, "net.pt2") == info, "the same file again is trusted already"
    assert info.backends[Backend.PYTORCH] is None
    assert "by pytorch only" in str(info.backends[Backend.TFLITE])
    assert catalogue.refusal(info, Backend.PYTORCH, Technique.parse("qat_wi8_ai8")) is None
    assert catalogue.load(info.id).layer_names == ("conv", "dense")
    stored = mine.folder() / info.id / "entry.json"
    stored.write_text(json.dumps(json.loads(stored.read_text()) | {"trusted": False}))
    with pytest.raises(Unsupported, match="nobody has said that it is trusted"):
        catalogue.load(info.id)


def look(path: Path, kind: str, **shapes: tuple[int, ...]) -> Inspection:
    """What the limited process does, in this one."""
    inspector = _inspect_pt2 if kind in ("pt2", "decomposed") else _inspect_torchscript
    return inspector.inspect(path, Request(path, shapes, trusted=True))


@pytest.mark.parametrize("kind", ["pt2", "decomposed", "scripted", "traced"])
def test_every_layer_of_a_program_is_found_whatever_its_batch(tmp_path: Path, kind: str) -> None:
    found = look(saved(tmp_path, kind), kind, **({"x": (1, 1, 28, 28)} if kind == "scripted" else {}))
    prefix = "" if kind in ("pt2", "decomposed") else "program."
    assert found.layers == (f"{prefix}conv", f"{prefix}dense")
    assert (found.batched, found.output_size, found.backends) == (True, 10, {})
    assert found.inputs[0].shape == (None if kind == "scripted" else ("batch", 1, 28, 28))
    assert "taken" in found.notes[-1]
    assert {tensor["name"] for tensor in found.facts["tensors"]} >= {"conv.weight", "dense.bias"}


def test_the_batch_of_the_example_is_freed_without_changing_an_answer(tmp_path: Path) -> None:
    program = torch_file.exported(saved(tmp_path, "pt2", Net(), (torch.zeros(3, 1, 28, 28),)))
    module, freed = torch_file.any_batch(program)
    x = torch.rand(5, 1, 28, 28)
    with torch.no_grad():
        assert freed
        torch.testing.assert_close(module(x), Net().eval()(x))
    assert not torch_file.any_batch(torch_file.exported(saved(tmp_path, "pt2", Mixing(), (torch.zeros(3, 6),))))[1]


def test_a_program_that_mixes_its_samples_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match="batches of 3") as caught:
        look(saved(tmp_path, "pt2", Mixing(), (torch.zeros(3, 6),)), "pt2")
    assert "dynamic_shapes" in caught.value.hint


def test_several_inputs_and_indices_are_taken_as_rows(tmp_path: Path) -> None:
    ids, mask = torch.tensor([[1, 2, 3, 4, 5]]), torch.rand(1, 5)
    path = saved(tmp_path, "pt2", Words(), (ids, mask))
    found = look(path, "pt2")
    assert [(port.name, port.dtype, port.shape) for port in found.inputs] == [
        ("ids", "int64", ("batch", 5)),
        ("mask", "float32", ("batch", 5)),
    ]
    assert (found.layers, found.output_size) == (("program.dense",), 3)
    module = torch_file.load(path, Kind.PT2, signature_of(found.inputs, {}, None, batched=True))
    with torch.no_grad():
        output = module(torch.cat([ids.float(), mask], 1).repeat(2, 1))["logits"]
        torch.testing.assert_close(output, Words().eval()(ids, mask)["logits"].repeat(2, 1))


def test_channels_last_inputs_are_moved_back(tmp_path: Path) -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = Flat()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x.permute(0, 3, 1, 2).contiguous())

    path, x = saved(tmp_path, "pt2", Last(), (torch.zeros(1, 28, 28, 1),)), torch.rand(2, 1, 28, 28)
    found = look(path, "pt2")
    signature = signature_of(found.inputs, {}, None, batched=True)
    assert signature.sample_shape == (28, 28, 1)
    with torch.no_grad():
        torch.testing.assert_close(torch_file.load(path, Kind.PT2, signature)(x), Net().eval()(x))


@pytest.mark.parametrize("kind", ["pt2", "scripted"])
def test_broken_programs_get_a_designed_error(tmp_path: Path, kind: str) -> None:
    path = saved(tmp_path, kind)
    with pytest.raises(BadModel, match="does not run with x=1x3x28x28"):
        look(saved(tmp_path, "scripted"), "scripted", x=(1, 3, 28, 28))
    broken = tmp_path / "broken"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(broken, "w") as target:
        for name in source.namelist():
            target.writestr(name, b"" if name.endswith(("model.json", "data.pkl")) else source.read(name))
    with pytest.raises(BadModel, match="cannot read"):
        look(broken, kind)


def test_a_program_of_sentences_is_refused(tmp_path: Path) -> None:
    class Sentences(nn.Module):
        def forward(self, x: list[str]) -> int:
            return len(x)

    torch.jit.save(torch.jit.script(Sentences()), tmp_path / "net.ts")
    with pytest.raises(BadModel, match="something else than tensors"):
        look(tmp_path / "net.ts", "scripted")
