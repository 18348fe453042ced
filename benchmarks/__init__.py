"""Benchmarks: run with ``python -m benchmarks.NAME``. They take data as paths and print what they measure."""
