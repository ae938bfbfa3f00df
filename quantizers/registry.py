"""Name → adapter, imported only when asked for: the only place that knows which folder is which backend."""

from __future__ import annotations

from importlib import import_module

from quantizers.adapter import Adapter
from quantizers.schema import Backend

_ADAPTERS = {
    Backend.PYTORCH: "quantizers.pytorch.adapter:PyTorchAdapter",
    Backend.TFLITE: "quantizers.tflite.adapter:TFLiteAdapter",
    Backend.ONNXRUNTIME: "quantizers.onnxruntime.adapter:OnnxRuntimeAdapter",
}


def get(backend: Backend) -> Adapter:
    """The adapter of a backend."""
    module, _, name = _ADAPTERS[backend].partition(":")
    adapter: Adapter = getattr(import_module(module), name)()
    return adapter
