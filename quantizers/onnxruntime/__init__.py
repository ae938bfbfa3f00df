"""The ONNX Runtime backend: prepares and quantizes with the runtime's own tools, reads the file with plain onnx."""
