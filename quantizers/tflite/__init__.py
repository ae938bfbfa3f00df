"""The TFLite backend: converts with tf.lite.TFLiteConverter, reads the flatbuffer, and infers with LiteRT alone."""
