"""A run without its slowest part, for tests of another part."""

import pytest

from topocompress.deploy.measurement import count_macs, count_parameters, likenesses
from topocompress.types import Delivery, ExportCheck, Measurement
from topocompress.workflows.delivery import MODEL_FILE


def _deliver(job, directory, original, finished, *, int8=False, half=False):
    assert not (int8 or half), "a smaller file is made from a real one"
    (directory / MODEL_FILE).write_bytes(b"not exported")

    def side(model, found):
        counts = {"parameters": count_parameters(model), "macs": count_macs(model, job.example)}
        return Measurement(**counts, accuracy=found.accuracy, metric=found.metric, **likenesses(original[1], found))

    check = ExportCheck(samples=1, max_abs=0.0, max_rel=0.0, top1_agreement=1.0, opset=18)
    return Delivery(before=side(*original), after=side(*finished), export=check)


@pytest.fixture
def unexported(monkeypatch):
    """``compress()`` exports nothing and times nothing: everything but the files and measurements of ONNX is real."""
    monkeypatch.setattr("topocompress.workflows.compress.deliver", _deliver)
