"""“My models”: added, remembered, changed and removed; of the zoo's own weights as files, so that what comes back is known."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from models import catalogue, entry, mine, zoo
from models.float_model import Kind, Source
from models.preprocessing import Preprocessing
from quantizers.errors import BadModel, UnknownName, Unsupported
from quantizers.schema import Backend, Technique
from quantizers.signature import Layout

ROOT = Path(__file__).parents[2]
WEIGHTS = zoo.WEIGHTS / "mnist-cnn.safetensors"


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QUANTSCOPE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def cnn() -> bytes:
    return zoo.load("mnist-cnn").onnx_model().SerializeToString()


def dynamic_model() -> bytes:
    """A convolution over images of any size."""
    weight = onnx.numpy_helper.from_array(np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32), "w")
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"], name="conv"), helper.make_node("GlobalAveragePool", ["c"], ["y"])]
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, "height", "width"])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [image], [out], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def test_an_onnx_is_added_found_and_loaded(cnn: bytes) -> None:
    info = mine.add(cnn, "../My Model.onnx")
    assert info.id.startswith(entry.PREFIX)
    assert info.title == "My Model.onnx"
    assert (info.source, info.kind, info.available) == (Source.MINE, Kind.ONNX, True)
    assert (info.input_shape, info.classes) == ((28, 28, 1), 10)
    assert info.signature is not None
    assert info.signature.layout is Layout.CHANNELS_FIRST
    assert info.backends[Backend.ONNXRUNTIME] is None
    assert "onnx" in (info.backends[Backend.TFLITE] or "")
    assert "mnist-5k" in info.datasets
    assert catalogue.catalogue()[-1] == info == catalogue.info(info.id)
    assert catalogue.layer_names(info.id) == ("conv1", "dense")
    assert catalogue.load(info.id).layer_names == ("conv1", "dense")
    assert [node.name for node in catalogue.load(info.id).onnx_model().graph.node][:1] == ["conv1"]


def test_adding_the_same_file_again_gives_the_entry_there_is(cnn: bytes) -> None:
    assert mine.add(cnn, "a.onnx") == mine.add(cnn, "a.onnx")
    assert len(mine.catalogue()) == 1


def test_an_id_is_made_of_the_name_without_any_path(cnn: bytes, own_home: Path) -> None:
    info = mine.add(cnn, "..\\..\\évil/../../x .onnx")
    assert [path.name for path in (own_home / "models").iterdir()] == [info.id]
    for wrong in ("mine-../..", "mine-x/../../y", "..", "mine-nothing"):
        with pytest.raises(UnknownName):
            mine.entry(wrong)


def test_free_axes_wait_for_a_person_to_say_their_length() -> None:
    info = mine.add(dynamic_model(), "dynamic.onnx")
    assert not info.available
    assert "x=1x3x224x224" in (info.why_not or "")
    with pytest.raises(Unsupported):
        catalogue.load(info.id)
    changed = mine.update(info.id, shapes={"x": (1, 3, 32, 48)})
    assert changed.available
    assert (changed.input_shape, changed.classes) == ((32, 48, 3), 4)
    written = {one.key: one.value for one in catalogue.load(info.id).onnx_model().metadata_props}
    assert '"shape": [1, 3, 32, 48]' in written["quantscope.signature"]


def test_choices_are_remembered(cnn: bytes) -> None:
    info = mine.add(cnn, "a.onnx")
    chosen = Preprocessing((127.5,), (127.5,), bgr=True, layout=Layout.CHANNELS_FIRST, label_offset=1)
    changed = mine.update(info.id, preprocessing=chosen, labels=("a", "b"), title="Mine")
    assert catalogue.info(info.id) == changed
    assert (changed.preprocessing, changed.labels, changed.title) == (chosen, ("a", "b"), "Mine")
    assert changed.targets(np.array([0, 9])).tolist() == [1, 10]


def test_a_removed_model_comes_back_until_the_next_one_is_removed(cnn: bytes, own_home: Path) -> None:
    info, other = mine.add(cnn, "a.onnx"), mine.add(cnn, "b.onnx")
    mine.remove(info.id)
    for ask in (mine.remove, catalogue.info, catalogue.load, catalogue.layer_names):
        with pytest.raises(UnknownName):
            ask(info.id)
    mine.restore(info.id)
    assert catalogue.info(info.id) == info
    mine.remove(info.id)
    mine.remove(other.id)
    with pytest.raises(UnknownName):
        mine.restore(info.id)
    assert [path.name for path in (own_home / "models").iterdir()] == [f".removed-{other.id}"]


def test_a_model_added_anew_while_it_was_removed_stays(cnn: bytes, own_home: Path) -> None:
    info = mine.add(cnn, "a.onnx")
    mine.remove(info.id)
    mine.add(cnn, "a.onnx")
    mine.restore(info.id)
    assert [path.name for path in (own_home / "models").iterdir()] == [info.id]


def test_a_quantized_tflite_is_measured_as_it_is_and_not_quantized_again() -> None:
    info = mine.add(ROOT / "examples" / "fashion-cnn--tflite--static_wi8_ai8" / "model.tflite", "int8.tflite")
    assert info.quantized
    assert catalogue.refusal(info, Backend.TFLITE, Technique.parse("float32")) is None
    refused = catalogue.refusal(info, Backend.TFLITE, Technique.parse("dynamic_wi8"))
    assert "is quantized already" in (refused.message if refused else "")


def test_an_entry_of_a_later_version_says_so(cnn: bytes, own_home: Path) -> None:
    path = own_home / "models" / mine.add(cnn, "a.onnx").id / "entry.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 99}))
    with pytest.raises(BadModel, match="later version"):
        mine.catalogue()


def test_bare_weights_become_the_architecture_they_fit(tmp_path: Path) -> None:
    info = mine.add(WEIGHTS, WEIGHTS.name)
    assert (info.kind, info.input_shape, info.classes) == (Kind.SAFETENSORS, (28, 28, 1), 10)
    assert all(why_not is None for why_not in info.backends.values())
    loaded, original = catalogue.load(info.id), zoo.load("mnist-cnn")
    assert loaded.digest == original.digest
    assert loaded.layer_names == original.layer_names == catalogue.layer_names(info.id)


def test_a_wrapped_checkpoint_is_understood_and_code_in_it_is_not_run(tmp_path: Path) -> None:
    import torch

    state = {f"module.{name}": value for name, value in zoo.load("mnist-cnn").torch_module().state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "c.pt")
    info = mine.add(tmp_path / "c.pt", "c.pt")
    assert info.kind is Kind.TORCH
    assert catalogue.load(info.id).digest == zoo.load("mnist-cnn").digest

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path}/ran",)

    torch.save({"state_dict": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(Unsupported, match="code of its own"):
        mine.add(tmp_path / "evil.pt", "evil.pt")
    assert not (tmp_path / "ran").exists()
    assert len(mine.catalogue()) == 1


def test_weights_that_fit_no_architecture_are_looked_at_alone(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    tensors = {"conv9.weight": np.ones((3, 3), np.float32), "conv9.bias": np.ones(3, np.float32)}
    save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(BadModel, match="not all there") as caught:
        mine.add(tmp_path / "w.safetensors", "w.safetensors", architecture="mnist-mlp")
    assert "mnist-mlp" in caught.value.hint
    info = mine.add(tmp_path / "w.safetensors", "w.safetensors")
    assert (info.task, info.parameters, info.input_shape, info.datasets) == ("weights alone", 12, (), ("noise",))
    assert mine.layer_names(info.id) == ("conv9",)
    assert "fit no architecture" in mine.entry(info.id).inspection.notes[0]
    assert info.backends[Backend.PYTORCH] is None
    assert all(info.backends[backend] for backend in (Backend.TFLITE, Backend.ONNXRUNTIME))
    with pytest.raises(NotImplementedError, match="weights alone"):
        catalogue.load(info.id).torch_module()(None)


def test_tensors_among_which_no_weight_is_are_refused(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"mean": np.zeros(3, np.float32)}, tmp_path / "w.safetensors")
    with pytest.raises(BadModel, match="fit no architecture"):
        mine.add(tmp_path / "w.safetensors", "w.safetensors")


def test_quantized_files_are_for_looking_at() -> None:
    info = zoo.catalogue()[0]
    done = type(info)(**{**{name: getattr(info, name) for name in info.__slots__}, "quantized": True})
    refused = catalogue.refusal(done, Backend.ONNXRUNTIME, Technique.parse("static_wi8_ai8"))
    assert refused is not None
    assert "quantized already" in refused.message
    assert catalogue.refusal(done, Backend.ONNXRUNTIME, Technique.parse("float32")) is None
    assert catalogue.refusal(info, Backend.ONNXRUNTIME, Technique.parse("static_wi8_ai8")) is None


def zipped(tmp_path: Path, **members: bytes) -> Path:
    path = tmp_path / "m.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    ("members", "error", "message"),
    [
        ({"saved_model.pb": b"x"}, Unsupported, "SavedModel"),
        ({"x.npy": b"x"}, Unsupported, "data, not a model"),
        ({"read.me": b"x"}, BadModel, "must hold one model; it holds none"),
        ({"a.onnx": b"x", "b.onnx": b"y"}, BadModel, "a.onnx, b.onnx"),
        ({"../a.onnx": b"x"}, BadModel, "leads out of its folder"),
        ({"/tmp/a.onnx": b"x"}, BadModel, "leads out of its folder"),
        ({"..\\a.onnx": b"x"}, BadModel, "leads out of its folder"),
    ],
)
def test_archives_that_hold_no_model_are_refused(
    tmp_path: Path, members: dict[str, bytes], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        mine.add(zipped(tmp_path, **members), "m.zip")
    assert not list(mine.folder().iterdir())


def test_the_callers_process_parses_nothing(cnn: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(cnn)
    code = (
        "import sys; from pathlib import Path; from models import catalogue, mine;"
        f"print(mine.add(Path({str(tmp_path / 'm.onnx')!r}), 'm.onnx').id, len(catalogue.catalogue()));"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    heavy = {"torch", "tensorflow", "keras", "onnx", "onnxruntime", "safetensors", "PIL", "scipy", "pandas", "ai_edge_litert"}
    assert not heavy & set(run.stdout.splitlines()[1].split())
