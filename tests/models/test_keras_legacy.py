"""Files that tf_keras, which is Keras 2, wrote with what Keras 3 has no layer for: TensorFlow's functions between layers."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from models import keras_legacy
from models.float_model import Kind
from models.inspect_process import Request, look
from quantizers.errors import BadModel, Unsupported
from quantizers.tflite.runtime import LiteRTSession

pytestmark = pytest.mark.adapter

WRITE = """
import sys
import numpy as np
import tensorflow as tf
import tf_keras
from tf_keras import layers
tf_keras.utils.set_random_seed(0)
source = layers.Input((16, 16, 3))
values = layers.DepthwiseConv2D(3, name="dw")(layers.Conv2D(8, 3, activation="relu", name="conv")(source))
values = layers.GlobalAveragePooling2D()(tf.nn.relu6(values * 0.5 + 1.0))
network = tf_keras.Model(source, layers.Dense(4, name="dense")(values))
folder = sys.argv[1]
for name in ("model.h5", "other.keras"):
    network.save(f"{folder}/{name}")
x = np.random.default_rng(0).random((4, 16, 16, 3), np.float32)
np.savez(f"{folder}/truth.npz", x=x, y=network(x).numpy())
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("keras2")
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": "1"}
    subprocess.run([sys.executable, "-c", WRITE, str(path)], env=environment, capture_output=True, check=True, timeout=180)
    return path


def answers(file: Path, x: np.ndarray) -> np.ndarray:
    session = LiteRTSession(file)
    return session.logits(session.run(session.prepare(x)))


def test_an_h5_of_keras_2_is_looked_into_as_the_tflite_that_is_made_of_it(folder):
    found = look(Request(folder / "model.h5"), seconds=240)
    assert (found.kind, found.file) == (Kind.TFLITE, "model.tflite")
    assert len(found.inspection.layers) == 3
    assert found.inspection.backends == {}
    assert "written by Keras 2" in found.inspection.notes[0]
    truth = np.load(folder / "truth.npz")
    np.testing.assert_allclose(answers(folder / "model.tflite", truth["x"]), truth["y"], rtol=1e-4, atol=1e-5)


def test_a_keras_archive_of_keras_2_is_converted_too(folder):
    config = keras_legacy.configuration(folder / "other.keras")
    assert config is not None
    made = keras_legacy.to_tflite(folder / "other.keras", config)
    truth = np.load(folder / "truth.npz")
    np.testing.assert_allclose(answers(made, truth["x"]), truth["y"], rtol=1e-4, atol=1e-5)


def test_a_damaged_file_ends_with_the_words_of_tf_keras(folder, tmp_path):
    config = keras_legacy.configuration(folder / "model.h5")
    assert config is not None
    broken = tmp_path / "broken.h5"
    broken.write_bytes((folder / "model.h5").read_bytes()[:4000])
    with pytest.raises(BadModel, match=r"tf_keras cannot read the file either: .*truncated"):
        keras_legacy.to_tflite(broken, config)


@pytest.mark.parametrize(("version", "legacy"), [("2.15.0", True), ("1.2.2", True), ("3.15.1", False)])
def test_only_files_of_older_versions_are_tf_keras_business(tmp_path, version, legacy):
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": version}))
        archive.writestr("config.json", json.dumps({"class_name": "Functional"}))
    assert (keras_legacy.configuration(path) is not None) is legacy


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ({"class_name": "Lambda", "config": {}}, "Lambda"),
        ({"class_name": "Dense", "config": {"activation": {"class_name": "__lambda__"}}}, "__lambda__"),
        ({"class_name": "system", "module": "os", "config": "ls"}, "system of os"),
        ({"class_name": "TFOpLambda", "config": {"function": "io.write_file"}}, "io.write_file"),
    ],
)
def test_what_a_file_would_run_is_refused_before_anything_is_read(tmp_path, layer, words):
    with pytest.raises(BadModel, match=words) as caught:
        keras_legacy.to_tflite(tmp_path / "model.h5", {"class_name": "Functional", "config": {"layers": [layer]}})
    assert "code of its own" in caught.value.hint


def test_without_tf_keras_the_reason_names_it(monkeypatch, tmp_path):
    monkeypatch.setattr(keras_legacy, "PACKAGE", "tf_keras_that_is_not_installed")
    with pytest.raises(Unsupported, match="written by Keras 2") as caught:
        keras_legacy.to_tflite(tmp_path / "model.h5", {"class_name": "Functional", "config": {"layers": []}})
    assert "pip install" in caught.value.hint
