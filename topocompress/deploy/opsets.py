"""Versions of ONNX's operators that networks can be exported in. Needs neither onnx nor torch."""

from __future__ import annotations

from topocompress.errors import ExportError

OPSETS = range(18, 24)
"""Those that torch writes itself; what it converts to others depends on the network."""
OF_DETECTORS = range(18, 21)
"""Detectors are exported by recording a run, which ends earlier."""


def check_opset(opset: int | None, *, detector: bool = False) -> None:
    """Refuse a version that the exporter does not write.

    Args:
        opset: What was asked for; ``None`` is the exporter's default.
        detector: Whether the network is a detector.

    Raises:
        ExportError: It is out of range.
    """
    known = OF_DETECTORS if detector else OPSETS
    if opset is not None and opset not in known:
        raise ExportError(
            f"--opset {opset} cannot be written{' for a detector' if detector else ''}",
            hint=f"Give one from {known.start} to {known.stop - 1}, or leave it out.",
        )
