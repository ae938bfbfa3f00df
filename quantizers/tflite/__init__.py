"""The TFLite backend: converts with TensorFlow, rewrites with litert-quantizer, reads the flatbuffer, infers with LiteRT."""
