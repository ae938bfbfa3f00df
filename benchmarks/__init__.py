"""A quantized model → numbers: size, latency, memory, quality, fidelity."""
