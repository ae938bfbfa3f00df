"""The model in a file that a person brought, loaded in a trial's own process; meets `FloatModel`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.float_model import Kind, ModelInfo
from models.inspection import Shapes
from quantizers.errors import Unsupported


@dataclass(frozen=True, eq=False)
class ForeignModel:
    """A model file as it is.

    Attributes:
        path: the file; what it refers to lies beside it.
        digest: SHA-256 of what was uploaded.
        shapes: shapes given to inputs with free axes.
    """

    info: ModelInfo
    path: Path
    layer_names: tuple[str, ...]
    digest: str
    shapes: Shapes

    def torch_module(self) -> Any:
        """A trusted program as an nn.Module in eval mode, or bare weights as one that holds them and cannot be run."""
        if self.info.kind in (Kind.SAFETENSORS, Kind.TORCH):
            from models.state_dict import read_tensors
            from models.torch_file import Weights

            return Weights(read_tensors(self.path)).eval()
        if not self.info.kind.is_program:
            raise self._refusal("PyTorch module", "Bring its weights as .safetensors in an architecture of the zoo.")
        from models.torch_file import load

        assert self.info.signature is not None, "a model that can be loaded has a signature"
        return load(self.path, self.info.kind, self.info.signature)

    def keras_model(self) -> Any:
        """The keras.Model of a .keras or .h5 file, without code of its own."""
        if self.info.kind is not Kind.KERAS:
            raise self._refusal("Keras model", "Bring it as .keras.")
        from models.keras_file import load

        return load(self.path)

    def onnx_model(self) -> Any:
        """The onnx.ModelProto of an .onnx file, weights included, free axes other than the batch's filled in."""
        if self.info.kind is not Kind.ONNX:
            raise self._refusal("ONNX model", "Bring it as .onnx.")
        from models.onnx_file import load

        assert self.info.signature is not None, "a model that can be loaded has a signature"
        return load(self.path, self.info.signature)

    def tflite_file(self) -> Path:
        if self.info.kind is not Kind.TFLITE:
            raise self._refusal(".tflite", "Bring it as .tflite.")
        return self.path

    def _refusal(self, form: str, hint: str) -> Unsupported:
        return Unsupported(f"{self.info.title} is a file of the kind {self.info.kind} and has no form as a {form}.", hint)
