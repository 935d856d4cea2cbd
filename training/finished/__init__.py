"""Models of finished runs: predict, export to ONNX, compress, combine into ensembles, compare and choose."""
