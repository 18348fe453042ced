"""torch's ONNX exporter, which reads its hundreds of operators anew for every export, reads them once a process."""

import functools

import pytest


def read_operators_once(patch: pytest.MonkeyPatch) -> None:
    """The operators of each opset are kept: half the time of exporting a small network goes into reading them.

    We add none of our own to them, so one export finds what another would; tests of :mod:`topocompress.deploy.export`
    compare files byte by byte. A torch that is built otherwise is left alone.
    """
    try:
        from torch.onnx._internal.exporter._registration import ONNXRegistry

        read = ONNXRegistry.from_torchlib
    except (ImportError, AttributeError):
        return
    patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(functools.cache(read)))
