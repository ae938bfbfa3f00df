"""PyTorch: `torch.export`, torchao's PT2E quantization with our own quantizer, and lowering to oneDNN's int8 kernels."""
