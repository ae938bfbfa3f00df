"""My models: files are dropped, looked into for real in their limited process, shown, given a shape and preprocessing."""

from __future__ import annotations

import csv
import io
import shutil
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from stored_runs import ROOT, open_page
from streamlit.testing.v1 import AppTest

from models import mine, my_data
from models.inspection import Inspection
from pages._ui.inspection import scales_csv, sentences, tensor_rows
from pages._ui.inspection_graph import dot
from pages._ui.preprocessing import IMAGENET, OWN, preset_of
from pages._ui.theme import LIGHT
from pages._ui.upload import TRUST, plain

FLOAT, INT8 = (ROOT / "examples" / f"fashion-cnn--tflite--{code}" / "model.tflite" for code in ("float32", "static_wi8_ai8"))
SECONDS = 60


def dynamic_onnx() -> bytes:
    """A convolution over images of any size."""
    weight = onnx.numpy_helper.from_array(np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32), "w")
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"], name="conv"), helper.make_node("GlobalAveragePool", ["c"], ["y"])]
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, "height", "width"])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [image], [out], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


@pytest.fixture(scope="module")
def looked_into(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with three models, each looked into once."""
    home = tmp_path_factory.mktemp("looked")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUANTSCOPE_HOME", str(home))
        mine.add(FLOAT, "float.tflite")
        mine.add(INT8, "int8.tflite")
        mine.add(dynamic_onnx(), "dynamic.onnx")
    return home


@pytest.fixture
def ids(looked_into: Path, clean_home: Path) -> dict[str, str]:
    """Those models in this test's own data directory; ids by title."""
    shutil.copytree(looked_into, clean_home)
    return {info.title: info.id for info in mine.catalogue()}


def wait(test: AppTest) -> AppTest:
    """Runs the page until what it waits for has come."""
    deadline = time.monotonic() + SECONDS
    for key in ("models_task", "data_task"):
        while key in test.session_state and not test.session_state[key].future.done():
            assert time.monotonic() < deadline
            time.sleep(0.1)
    return test.run()


def texts(test: Any) -> str:
    return "\n".join(str(one.value) for one in [*test.markdown, *test.caption, *test.title, *test.subheader])


def test_an_empty_collection_says_what_happens_to_a_file() -> None:
    test = open_page("my_models")
    assert not test.exception
    assert "No model of your own yet" in texts(test)
    assert "No data of your own yet" in texts(test)


def test_a_dropped_model_is_looked_into_and_opened() -> None:
    test = open_page("my_models")
    test.file_uploader(key="upload_models_0").set_value([("net.tflite", FLOAT.read_bytes(), "")]).run()
    assert "Looking into net.tflite, in a limited process of its own" in test.progress[0].text
    wait(test)
    assert not test.exception
    (info,) = mine.catalogue()
    assert test.query_params["model"] == info.id
    assert "Its weights are float: 6 layers can be quantized." in texts(test)
    assert "takes 9 of 9 operations" in texts(test)


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ([("cut.tflite", FLOAT.read_bytes()[:3000], "")], "The .tflite cannot be read"),
        ([("a.onnx", b"![x](http://elsewhere.example/x.png)", "")], "no model"),
        ([("a.onnx", b"1", ""), ("a.onnx", b"2", "")], "Two of the files have the same name"),
    ],
)
def test_a_broken_file_gets_a_designed_error_and_nothing_is_lost(
    files: list[tuple[str, bytes, str]], what: str, ids: dict[str, str]
) -> None:
    test = open_page("my_models")
    test.file_uploader(key="upload_models_0").set_value(files).run()
    wait(test)
    assert not test.exception
    assert what in test.warning[0].title
    assert f"{files[0][0]} was not added." in test.warning[0].value
    assert len(mine.catalogue()) == len(ids)
    test.button(key="models_dismiss").click().run()
    assert what not in "".join(warning.title for warning in test.warning)


def program() -> bytes:
    """As much of a .pt2 as tells what it is: no more of it is read before a person trusts it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("net/archive_format", "pt2")
    return stream.getvalue()


def test_a_program_is_not_run_unless_a_person_says_that_it_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    test = open_page("my_models")
    box = test.checkbox(key="upload_models_0_trust")
    assert not box.value
    for words in ("is a program", "with your rights on this machine", "read, change and send your files"):
        assert words in box.help
    test.file_uploader(key="upload_models_0").set_value([("net.pt2", program(), "")]).run()
    wait(test)
    assert not test.exception
    assert "code of its own" in test.warning[0].title
    assert TRUST.split(":")[0] in test.warning[0].value
    assert mine.catalogue() == ()

    asked: list[bool] = []
    add = mine.add
    monkeypatch.setattr(mine, "add", lambda *files, trusted: asked.append(trusted) or add(FLOAT, "float.tflite"))
    test.checkbox(key="upload_models_1_trust").check().run()
    test.file_uploader(key="upload_models_1").set_value([("net.pt2", program(), "")]).run()
    wait(test)
    assert asked == [True]
    assert not test.checkbox(key="upload_models_2_trust").value, "trust counts for one drop"


def test_weights_alone_are_shown_and_offered_without_an_input() -> None:
    from safetensors.numpy import save

    info = mine.add(save({"stem.weight": np.ones((8, 4), np.float32)}), "w.safetensors")
    test = open_page("my_models", model=info.id)
    assert not test.exception
    assert "ready for PyTorch" in str(test.selectbox(key="models_open").options)
    assert "fit no architecture" in texts(test)
    form = open_page("new_experiment", new_model=info.id)
    assert not form.exception
    assert "nothing runs them" in texts(form)


def test_a_file_that_is_told_of_twice_is_added_once() -> None:
    test = open_page("my_models")
    test.file_uploader(key="upload_models_0").set_value([("net.onnx", dynamic_onnx(), "")]).run()
    assert next(uploader.key for uploader in test.file_uploader) == "upload_models_1"
    wait(test)
    assert len(mine.catalogue()) == 1


def test_free_axes_are_asked_for_and_remembered(ids: dict[str, str]) -> None:
    test = open_page("my_models", model=ids["dynamic.onnx"])
    assert "cannot be used yet" in test.warning[0].title
    test.number_input(key="axis_x_2").set_value(32)
    test.number_input(key="axis_x_3").set_value(48)
    next(button for button in test.button if button.label == "Use this shape").click().run()
    wait(test)
    assert not test.exception
    assert mine.entry(ids["dynamic.onnx"]).shapes == {"x": (1, 3, 32, 48)}
    assert not test.warning
    assert "values from 0 to 1.00" in texts(test)
    assert open_page("my_models", model=ids["dynamic.onnx"]).number_input(key="axis_x_3").value == 48


def test_preprocessing_is_remembered_and_previewed(ids: dict[str, str]) -> None:
    model_id = ids["float.tflite"]
    test = open_page("my_models", model=model_id)
    assert "values from 0 to 1.00" in texts(test)
    test.selectbox(key=f"pre_values_{model_id}").set_value("−1 to 1").run()
    assert mine.entry(model_id).preprocessing.offset == (127.5,)
    assert "values from −1.00 to 1.00" in texts(test)
    test.number_input(key=f"pre_label_{model_id}").set_value(1).run()
    test.selectbox(key=f"pre_values_{model_id}").set_value(OWN).run()
    test.text_input(key=f"pre_divisor_{model_id}").set_value("0").run()
    assert "no divisor may be 0" in test.warning[0].title
    test.text_input(key=f"pre_divisor_{model_id}").set_value("1, 2").run()
    assert "2 numbers for 1 channels" in test.warning[0].title
    test.text_input(key=f"pre_divisor_{model_id}").set_value("51").run()
    kept = mine.entry(model_id).preprocessing
    assert (kept.offset, kept.divisor, kept.label_offset) == ((127.5,), (51.0,), 1)
    assert open_page("my_models", model=model_id).selectbox(key=f"pre_values_{model_id}").value == OWN


def test_colours_in_the_other_order_are_seen_so(ids: dict[str, str]) -> None:
    model_id = ids["dynamic.onnx"]
    mine.update(model_id, shapes={"x": (1, 3, 224, 224)})
    test = open_page("my_models", model=model_id)
    test.selectbox(key=f"pre_values_{model_id}").set_value(IMAGENET).run()
    test.selectbox(key=f"pre_bgr_{model_id}").set_value("Blue, green, red").run()
    assert not test.exception
    chosen = mine.entry(model_id).preprocessing
    assert (chosen.bgr, preset_of(chosen)) == (True, IMAGENET)
    assert "blue, green, red" in texts(test)


def test_a_quantized_file_is_shown_as_it_is_and_not_quantized_again(ids: dict[str, str]) -> None:
    test = open_page("my_models", model=ids["int8.tflite"])
    assert "it is quantized or reduced already" in texts(test)
    assert "quantized already" in test.info[0].value
    table = next(frame.value for frame in test.dataframe if "zero_point" in frame.value)
    assert set(table["dtype"]) == {"int8", "int32"}
    assert table["scale"].notna().all()


def test_a_model_is_renamed_removed_and_brought_back(ids: dict[str, str]) -> None:
    model_id = ids["float.tflite"]
    test = open_page("my_models", model=model_id)
    test.text_input(key=f"models_title_{model_id}").set_value("My *net*").run()
    assert mine.entry(model_id).title == "My *net*"
    assert test.subheader[0].value == r"My \*net\*"
    test.button(key="models_remove").click().run()
    assert not test.exception
    assert model_id not in {info.id for info in mine.catalogue()}
    assert "model" not in test.query_params
    test.button(key="models_undo").click().run()
    assert not test.exception
    assert test.query_params["model"] == model_id
    assert mine.entry(model_id).title == "My *net*"


def test_an_unknown_model_in_the_address_gets_a_designed_message(ids: dict[str, str]) -> None:
    test = open_page("my_models", model="mine-../..")
    assert not test.exception
    assert "There is no model called" in test.warning[0].title


def test_the_form_offers_a_model_of_ones_own_with_its_reasons(ids: dict[str, str]) -> None:
    test = open_page("new_experiment", new_model=ids["float.tflite"])
    assert test.button(key=f"new_model_{ids['float.tflite']}").label == "Chosen"
    assert "is quantized by tflite only" in texts(test)
    assert "**3 trials**" in texts(test)


def test_data_of_ones_own_is_added_listed_and_removed() -> None:
    random = np.random.default_rng(0)
    stream = io.BytesIO()
    np.savez(stream, x=random.integers(0, 256, (20, 8, 8, 1), np.uint8), y=np.arange(20) % 2)
    test = open_page("my_models")
    test.file_uploader(key="upload_data_0").set_value(("mine.npz", stream.getvalue(), "")).run()
    wait(test)
    assert not test.exception
    (data,) = my_data.catalogue()
    assert "Samples of 8 × 8 × 1: 4 to calibrate with, 16 others to evaluate on" in texts(test)
    test.button(key=f"data_remove_{data.id}").click().run()
    assert my_data.catalogue() == ()


def test_an_archive_without_images_gets_a_designed_error() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("readme.txt", "no images here")
    test = open_page("my_models")
    test.file_uploader(key="upload_data_0").set_value(("pictures.zip", stream.getvalue(), "")).run()
    wait(test)
    assert "The archive holds 0 images" in test.warning[0].title
    assert "pictures.zip was not added." in test.warning[0].value


TENSORS = [
    {"name": "w", "dtype": "int8", "shape": [2, -1], "scale": [0.5, 0.25], "zero_point": [0, 0], "axis": 0, "block": None},
    {"name": "y", "dtype": "float32", "shape": [1], "scale": [], "zero_point": [], "axis": None, "block": None},
]


def test_the_table_sums_up_channels_and_the_csv_lists_them() -> None:
    table = tensor_rows(TENSORS)
    assert list(table["shape"]) == ["2 × ?", "1"]
    assert table["scale"][0] == "0.250 … 0.500"
    rows = list(csv.DictReader(io.StringIO(scales_csv(TENSORS))))
    assert [(row["tensor"], row["channel"], row["scale"]) for row in rows] == [
        ("w", "0", "0.5"),
        ("w", "1", "0.25"),
        ("y", "0", ""),
    ]


def test_names_out_of_a_file_mean_nothing_to_graphviz_or_markdown() -> None:
    node = {"id": 0, "kind": 'CONV"] evil [label="', "name": "\\N\x00\n<b>", "runs_in": "int8", "xnnpack": False}
    drawn = dot([node, {**node, "id": 1}], [[0, 1], [1, 7]], LIGHT)
    assert 'label="CONV\\"] evil [label=\\"' in drawn
    assert "0 -> 1" in drawn
    assert "7" not in drawn.rsplit("}", 1)[0].splitlines()[-1]
    assert plain("![x](http://a.b) :red[y] $z$") == r"\!\[x\](http\://a.b) \:red\[y\] \$z\$"


def test_the_summary_counts_what_computes_in_integers() -> None:
    layers = [{"runs_in": "int8"}, {"runs_in": "float32"}]
    found = Inspection((), (), 10, ("a", "b"), quantized=True, facts={"layers": layers})
    assert sentences(found)[1] == "1 of 2 layers compute in integers, after the runtime's own optimization."
