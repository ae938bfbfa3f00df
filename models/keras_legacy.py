"""Files of Keras 2 that Keras 3 cannot read: tf_keras, in a process of its own, makes a float .tflite of one.

Both cannot be in one process, and Keras 3 has no layer for TensorFlow functions that Keras 2 wrote into a model (TFOpLambda).
Nothing of a file is run that a file could have brought: its configuration is read first, and refused where it names code, a
class from elsewhere or a function of TensorFlow that does more than compute.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from quantizers.errors import BadModel, Unsupported

PACKAGE = "tf_keras"
HOLDS_CODE = "It holds code of its own, which is never run here."
_ROOT = Path(__file__).parents[1]
_CODE = ("Lambda", "__lambda__", "ClassMethod", "InstanceMethod", "InstanceProperty", "TensorFlowOpLayer")
_PACKAGES = ("keras", "tf_keras", "builtins")
_FUNCTIONS = ("TFOpLambda", "SlicingOpLambda")
_COMPUTING = ("__operators__.", "math.", "nn.", "linalg.", "keras.backend.", "image.resize")
"""Beginnings of the names of TensorFlow's functions that only compute."""
_ALSO_COMPUTING = (
    *("cast", "clip_by_value", "concat", "convert_to_tensor", "expand_dims", "gather", "identity", "matmul", "maximum"),
    *("minimum", "ones_like", "pad", "reshape", "reverse", "shape", "slice", "split", "squeeze", "stack", "strided_slice"),
    *("tile", "transpose", "unstack", "zeros_like"),
)


def configuration(path: Path) -> Mapping[str, Any] | None:
    """What a file of Keras 2 says of its layers; None for another version's, and for bare weights."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            version, text = json.loads(archive.read("metadata.json")).get("keras_version", ""), archive.read("config.json")
    else:
        import h5py

        with h5py.File(path, "r") as file:
            version, text = file.attrs.get("keras_version", ""), file.attrs.get("model_config", "")
    version = version.decode() if isinstance(version, bytes) else str(version)
    if not text or not version.startswith(("1.", "2.")):
        return None
    read: Mapping[str, Any] = json.loads(text)
    return read


def to_tflite(path: Path, config: Mapping[str, Any]) -> Path:
    """A float .tflite of the model, beside its file.

    Raises:
        Unsupported: tf_keras is not installed.
        BadModel: the file names code, or tf_keras cannot read it either.
    """
    _check(config)
    if find_spec(PACKAGE) is None:
        what = f"It was written by Keras 2, whose layers Keras 3 reads only in part, and {PACKAGE} is not installed here."
        raise Unsupported(what, f"pip install --no-deps {PACKAGE}, or load it there and save it as .tflite.")
    target = path.with_suffix(".tflite")
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": "1", "PYTHONPATH": str(_ROOT)}
    command = [sys.executable, "-m", __name__, str(path), str(target)]
    done = subprocess.run(
        command, check=False, cwd=_ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    sys.stderr.write(done.stderr)
    if done.returncode or not target.exists():
        words = next((line.strip() for line in reversed(done.stderr.splitlines()) if line.strip()), "it crashed")
        raise BadModel(f"{PACKAGE} cannot read the file either: {words[:300]}", "It may be damaged.")
    return target


def _check(config: Mapping[str, Any]) -> None:
    for part in _parts(config):
        kind, module = part.get("class_name"), part.get("module")
        if kind in _CODE or (isinstance(module, str) and module.split(".")[0] not in _PACKAGES):
            raise BadModel(f"Keras cannot read the file: it holds a {kind} of {module or 'its own'}.", HOLDS_CODE)
        if kind in _FUNCTIONS:
            function = str(part.get("config", {}).get("function", ""))
            if not function.startswith(_COMPUTING) and function not in _ALSO_COMPUTING:
                raise BadModel(f"Keras cannot read the file: it calls TensorFlow's function {function}.", HOLDS_CODE)


def _parts(value: Any) -> Iterator[Mapping[str, Any]]:
    """All objects of a configuration, at any depth."""
    if isinstance(value, Mapping):
        yield value
    for child in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        yield from _parts(child)


def main(source: Path, target: Path) -> None:
    """Reads the file and writes the .tflite; for a process without Keras 3."""
    import tensorflow as tf
    import tf_keras
    from tf_keras.src.saving.serialization_lib import SafeModeScope

    with SafeModeScope(safe_mode=True):  # load_model itself heeds it for .keras alone
        network = tf_keras.models.load_model(source, compile=False)
    target.write_bytes(tf.lite.TFLiteConverter.from_keras_model(network).convert())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
