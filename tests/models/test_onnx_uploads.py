"""Uploaded .onnx files, good, odd and hostile: a true answer or a clear refusal, whatever is in them, and never a crash."""

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from models import catalogue, datasets, mine, zoo
from quantizers.adapter import Request
from quantizers.capabilities import resolve_options
from quantizers.errors import BadModel, InputError, Unsupported
from quantizers.onnxruntime.adapter import OnnxRuntimeAdapter
from quantizers.schema import Backend, Technique

pytestmark = pytest.mark.adapter

ROOT = Path(__file__).parents[2]
MUTANTS, BATCH = 300, 50


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QUANTSCOPE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int, list[Any]]],
    weights: dict[str, np.ndarray] | None = None,
    output: onnx.ValueInfoProto | None = None,
    **opsets: int,
) -> ModelProto:
    ports = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()]
    result = output or helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    constants = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(nodes, "g", ports, [result], constants)
    domains = [helper.make_opsetid("" if name == "onnx" else name.replace("_", "."), n) for name, n in opsets.items()]
    return helper.make_model(graph, opset_imports=domains or [helper.make_opsetid("", 17)], ir_version=8)


FLOATS: dict[str, tuple[int, list[Any]]] = {"x": (TensorProto.FLOAT, ["N", 8])}


def dense(**changes: Any) -> ModelProto:
    """y = relu(x · w) · v"""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="first"),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "v"], ["y"], name="second"),
    ]
    return model(nodes, changes.pop("inputs", FLOATS), {"w": random(8, 64), "v": random(64, 3)}, **changes)


def node(kind: str, *inputs: str, **attributes: Any) -> list[onnx.NodeProto]:
    return [helper.make_node(kind, list(inputs) or ["x"], ["y"], name=kind, **attributes)]


def with_external(location: str) -> ModelProto:
    made = dense()
    tensor = made.graph.initializer[0]
    raw = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "0", "length": str(len(raw))}.items():
        tensor.external_data.add(key=key, value=value)
    return made


def nan_weights() -> ModelProto:
    made = dense()
    made.graph.initializer[0].CopyFrom(numpy_helper.from_array(random(8, 64) * np.nan, "w"))
    return made


def bomb() -> ModelProto:
    """A few bytes that ask for a tensor of four terabytes."""
    nodes = [helper.make_node("ConstantOfShape", ["s"], ["c"]), helper.make_node("ReduceSum", ["c"], ["r"])]
    return model([*nodes, *node("Add", "x", "r")], FLOATS, {"s": np.array([1 << 20, 1 << 20])})


def slow() -> ModelProto:
    """A loop of two to the forty rounds."""
    one = helper.make_tensor_value_info("i", TensorProto.INT64, [])
    going, state = (helper.make_tensor_value_info(name, kind, []) for name, kind in (("c", 9), ("v", 1)))
    out = [helper.make_tensor_value_info(name, kind, []) for name, kind in (("c2", 9), ("v2", 1))]
    steps = [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Sin", ["v"], ["v2"])]
    body = helper.make_graph(steps, "body", [one, going, state], out)
    first = helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0)
    weights = {"n": np.array(1 << 40), "t": np.array(True)}
    return model([first, *node("Loop", "n", "t", "s", body=body)], {"x": (TensorProto.FLOAT, [1, 8])}, weights)


def sequence_output() -> ModelProto:
    result = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)
    return model(node("SequenceConstruct", "x", "x"), FLOATS, output=result)


def tree() -> ModelProto:
    """A regression tree of one leaf."""
    zeros = ("nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_truenodeids", "nodes_falsenodeids")
    values: dict[str, Any] = {key: [0] for key in (*zeros, "target_treeids", "target_nodeids", "target_ids")}
    values |= {"nodes_values": [0.0], "nodes_modes": ["LEAF"], "target_weights": [1.0], "n_targets": 1}
    return model(node("TreeEnsembleRegressor", domain="ai.onnx.ml", **values), FLOATS, onnx=17, ai_onnx_ml=3)


REFUSED: dict[str, tuple[Callable[[], ModelProto], str]] = {
    "an operation of a custom domain": (
        lambda: model(node("Magic", domain="my.own"), FLOATS, onnx=17, my_own=1),
        "my.own|Magic",
    ),
    "an unknown operation": (lambda: model(node("NoSuchThing"), FLOATS), "NoSuchThing"),
    "opset 99": (lambda: dense(onnx=99), "99|opset|Opset"),
    "a tensor of four terabytes": (bomb, "memory|alloc|Alloc"),
    "a cycle": (lambda: model(node("Add", "x", "y"), FLOATS), "cycle|acyclic|graph|Graph|sorted"),
    "weights that are not there": (lambda: with_external("weights.bin"), "outside the file cannot be read"),
    "weights above its folder": (lambda: with_external("../../weights.bin"), "outside the file cannot be read"),
    "weights at an absolute path": (lambda: with_external("/etc/passwd"), "outside the file cannot be read"),
    "outputs that are sequences": (sequence_output, "seq|sequence"),
    "no operations": (lambda: model([], FLOATS), "no model of a kind"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_hostile_and_impossible_files_are_refused_with_the_cause(what: str) -> None:
    make, message = REFUSED[what]
    with pytest.raises(InputError, match=message) as caught:
        mine.add(make().SerializeToString(), "odd.onnx")
    assert caught.value.hint
    assert not mine.catalogue()


def test_a_file_that_takes_forever_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    from models import inspect_process

    look = inspect_process.look
    monkeypatch.setattr(mine, "look", lambda request: look(request, seconds=6))
    with pytest.raises(BadModel, match=r"longer than 6 s|signal"):
        mine.add(slow().SerializeToString(), "slow.onnx")


@pytest.mark.parametrize(("make", "why_not"), [(nan_weights, "NaN"), (tree, "no convolution and no dense layer")])
def test_what_can_be_read_and_not_quantized_says_why_not(make: Callable[[], ModelProto], why_not: str) -> None:
    info = mine.add(make().SerializeToString(), "odd.onnx")
    assert why_not in (info.backends[Backend.ONNXRUNTIME] or "")
    refusal = catalogue.refusal(info, Backend.ONNXRUNTIME, Technique.parse("static_wi8_ai8"))
    assert refusal is not None
    assert why_not in refusal.message


def test_text_is_explained() -> None:
    result = helper.make_tensor_value_info("y", TensorProto.STRING, None)
    made = model(node("StringNormalizer"), {"x": (TensorProto.STRING, [1])}, output=result)
    with pytest.raises(Unsupported, match="x takes string, not numbers") as caught:
        mine.add(made.SerializeToString(), "text.onnx")
    assert "cut off the part that reads text" in caught.value.hint


@pytest.mark.parametrize(("batch", "together"), [("N", True), (1, False)])
def test_a_fixed_batch_is_run_one_by_one_with_the_same_result(batch: int | str, together: bool, tmp_path: Path) -> None:
    info = mine.add(dense(inputs={"x": (TensorProto.FLOAT, [batch, 8])}).SerializeToString(), f"{batch}.onnx")
    assert info.signature is not None
    assert info.signature.batched is together
    samples = random(5, 8)
    technique = Technique.parse("float32")
    request = Request(technique, resolve_options(Backend.ONNXRUNTIME, technique, {}), None, tmp_path)
    predicted = OnnxRuntimeAdapter().quantize(catalogue.load(info.id), request, lambda fraction, words: None).predict(samples)
    np.testing.assert_allclose(predicted, np.maximum(samples @ random(8, 64), 0) @ random(64, 3), rtol=1e-4, atol=1e-4)


def test_integers_and_several_inputs_come_from_named_arrays(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["e"]),
        helper.make_node("Add", ["e", "x"], ["s"]),
        *node("MatMul", "s", "w"),
    ]
    inputs = {"ids": (TensorProto.INT64, ["N", 4]), "x": (TensorProto.FLOAT, ["N", 4, 8])}
    made = model(nodes, inputs, {"table": random(50, 8), "w": random(8, 3)})
    info = mine.add(made.SerializeToString(), "ids.onnx")
    assert info.input_shape == (4 + 32,)
    ids, x = np.arange(40).reshape(10, 4), random(10, 4, 8)
    np.savez(tmp_path / "own.npz", ids=ids, x=x, y=np.arange(10) % 3)
    loaded = datasets.load(str(tmp_path / "own.npz"), info)
    assert loaded.y is not None
    technique = Technique.parse("weight_only_wi8")
    request = Request(technique, resolve_options(Backend.ONNXRUNTIME, technique, {}), None, tmp_path)
    quantized = OnnxRuntimeAdapter().quantize(catalogue.load(info.id), request, lambda fraction, words: None)
    exact = (random(50, 8)[ids] + x) @ random(8, 3)
    np.testing.assert_allclose(quantized.predict(loaded.x), exact.reshape(10, -1), atol=0.1)


def test_weights_beside_the_file_come_in_a_zip_or_a_folder(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.onnx").write_bytes(with_external("weights.bin").SerializeToString())
    (tmp_path / "m" / "weights.bin").write_bytes(random(8, 64).tobytes())
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        for path in (tmp_path / "m").iterdir():
            archive.write(path, f"inside/{path.name}")
    for source in (tmp_path / "m", tmp_path / "m.zip"):
        loaded = catalogue.load(mine.add(source, source.name).id)
        assert loaded.layer_names == ("first", "second")
        weight = next(one for one in loaded.onnx_model().graph.initializer if one.name == "w")
        np.testing.assert_array_equal(numpy_helper.to_array(weight), random(8, 64))


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("model.onnx", "weights.bin"):
            archive.writestr(name, b"x")
    data, place = bytearray(path.read_bytes()), 0
    while (place := data.find(b"PK\x01\x02", place) + 1) > 0:
        data[place + 23 : place + 27] = (0xFFFFFFF0).to_bytes(4, "little")  # the size that the directory claims
    with pytest.raises(BadModel, match="more than 4 GiB"):
        mine.add(bytes(data), "bomb.zip")


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A small network in every form that quantized weights are stored in."""
    forms: dict[str, tuple[str, dict[str, Any]]] = {
        "qdq": ("static_wi8_ai8", {}),
        "qoperator": ("static_wi8_ai8", {"format": "qoperator"}),
        "dynamic": ("dynamic_wi8", {}),
        "blocks": ("weight_only_wi4_g32", {}),
    }
    loaded, made = zoo.load("mnist-mlp"), {}
    samples = loaded.info.preprocess(datasets.load("mnist-5k").split("calibration").take(32).x)
    for name, (code, options) in forms.items():
        technique, folder = Technique.parse(code), tmp_path_factory.mktemp(name)
        resolved = resolve_options(Backend.ONNXRUNTIME, technique, options)
        request = Request(technique, resolved, samples, folder)
        made[name] = OnnxRuntimeAdapter().quantize(loaded, request, lambda fraction, words: None).path.read_bytes()
    return made


@pytest.mark.parametrize(
    ("form", "op", "dtype", "runs_in"),
    [
        ("qdq", "Gemm", "int8", "int8"),
        ("qoperator", "QGemm", "int8", "int8"),
        ("dynamic", "MatMulInteger", "int8", "int8"),
        ("blocks", "MatMulNBits", "uint4", "float32"),
    ],
)
def test_a_quantized_file_is_shown_as_it_is_and_not_quantized_again(
    artefacts: dict[str, bytes], form: str, op: str, dtype: str, runs_in: str
) -> None:
    info = mine.add(artefacts[form], f"{form}.onnx")
    assert info.quantized
    layers = mine.entry(info.id).inspection.facts["layers"]
    assert [(layer["op"], layer["dtype"], layer["runs_in"]) for layer in layers] == [(op, dtype, runs_in)] * 2
    assert all(layer["scales"] > 0 for layer in layers)
    facts = mine.entry(info.id).inspection.facts
    weights = [tensor for tensor in facts["tensors"] if tensor["dtype"] == dtype and tensor["shape"]]
    assert [len(tensor["scale"]) for tensor in weights] == [layer["scales"] for layer in layers]
    assert all(len(tensor["scale"]) == len(tensor["zero_point"]) for tensor in facts["tensors"])
    assert ("int8" in {node["runs_in"] for node in facts["graph"]["nodes"]}) == (runs_in == "int8")
    assert layers[0]["group_size"] == (32 if form == "blocks" else None)
    refusal = catalogue.refusal(info, Backend.ONNXRUNTIME, Technique.parse("static_wi8_ai8"))
    assert refusal is not None
    assert "quantized already" in refusal.message


def branches() -> ModelProto:
    """A product inside each branch of an If."""
    out = [helper.make_tensor_value_info("b", TensorProto.FLOAT, None)]
    bodies = []
    for name, factor in (("then", 1.0), ("else", -1.0)):
        weight = numpy_helper.from_array(random(8, 3) * np.float32(factor), "w")
        bodies.append(helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["b"], name="m")], name, [], out, [weight]))
    nodes = [helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0), helper.make_node("Greater", ["s", "zero"], ["c"])]
    nodes += node("If", "c", then_branch=bodies[0], else_branch=bodies[1])
    return model(nodes, {"x": (TensorProto.FLOAT, [1, 8])}, {"zero": np.array(0, np.float32)})


def mutants(bases: list[bytes]) -> Iterator[bytes]:
    """Bytes changed, cut off, left out and doubled; seeded."""
    chance = np.random.default_rng(0)
    for index in range(MUTANTS):
        data = bytearray(bases[index % len(bases)])
        for _ in range(chance.integers(1, 6)):
            # Most of a file is weights, in which any value is a good one.
            place, length = int(chance.integers(min(len(data), 4000))), int(chance.integers(1, 40))
            match chance.integers(4):
                case 0:
                    data[place] = chance.integers(256)
                case 1:
                    del data[place : place + length]
                case 2:
                    data[place:place] = data[place : place + length]
                case 3:
                    data[place] ^= 1 << int(chance.integers(8))
        yield bytes(data[: chance.integers(1, len(data))] if chance.random() < 0.1 else data)


_CHILD = """
import json, sys
from pathlib import Path
from models.inspect_process import Request, _guarded
for path in sys.argv[1:]:
    told = _guarded(Request(Path(path)))
    print("ANSWER", path, json.dumps(told, allow_nan=False), flush=True)
"""


def answers(paths: list[Path]) -> dict[str, dict[str, Any]]:
    """What the limited process tells of each file; those from the first that ends it on are missing."""
    command = [sys.executable, "-c", _CHILD, *map(str, paths)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    lines = [line.split(" ", 2)[1:] for line in run.stdout.splitlines() if line.startswith("ANSWER ")]
    return {path: json.loads(told) for path, told in lines}


def test_mutated_files_end_in_an_answer_or_a_refusal(artefacts: dict[str, bytes], tmp_path: Path) -> None:
    bases = [made.SerializeToString() for made in (dense(), branches(), tree())] + [artefacts["blocks"], artefacts["qdq"]]
    waiting = []
    for index, data in enumerate(mutants(bases)):
        (tmp_path / f"{index}.onnx").write_bytes(data)
        waiting.append(tmp_path / f"{index}.onnx")
    told: dict[str, dict[str, Any]] = {}
    fatal = []
    while waiting:
        found = answers(waiting[:BATCH])
        told |= found
        if len(found) < len(waiting[:BATCH]):
            fatal.append(waiting[len(found)])
            found[str(waiting[len(found)])] = {}
        waiting = waiting[len(found) :]
    assert len(told) + len(fatal) == MUTANTS
    assert len(fatal) < 10
    for path in fatal:
        with pytest.raises(BadModel, match="Reading the file"):
            mine.add(path, path.name)
    refused = [one["error"] for one in told.values() if "error" in one]
    assert {one["code"] for one in refused} <= {"bad_model", "unsupported", "bad_data"}
    assert all(one["message"] and one["hint"] for one in refused if one["code"] == "bad_model")
    assert 20 < len(refused) < MUTANTS - 20
