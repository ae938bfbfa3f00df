"""From a float model and a technique to a quantized model: vocabulary, mathematics, capabilities, one adapter a backend."""
