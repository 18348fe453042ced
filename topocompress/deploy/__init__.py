"""ONNX files: written, checked against PyTorch, quantised, and measured.

In: a module and samples. Out: files, their parity, latency, memory and profile. May import
:mod:`~topocompress.network` and below; the only user of onnx and onnxruntime.
"""
