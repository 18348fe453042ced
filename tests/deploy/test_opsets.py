import pytest

from tests.helpers.trained import held_out_part, trained
from topocompress.deploy.export import export_onnx
from topocompress.deploy.opsets import OF_DETECTORS, OPSETS, check_opset
from topocompress.errors import ExportError
from topocompress.workflows.options import Output, Recovery, Removal, Scoring, check


@pytest.mark.parametrize("opset", [None, 18, 20])
def test_what_both_exporters_write(opset):
    check_opset(opset)
    check_opset(opset, detector=True)


@pytest.mark.parametrize("opset", [-1, 0, 17, 24, 2**70])
def test_what_no_exporter_writes_is_refused_before_any_work(opset):
    with pytest.raises(ExportError) as caught:
        check(Removal(ratio=0.5), Scoring(), Recovery(), Output(opset=opset))
    assert caught.value.what == f"--opset {opset} cannot be written"
    assert caught.value.hint == "Give one from 18 to 23, or leave it out."


def test_detectors_end_earlier():
    check_opset(21)
    with pytest.raises(ExportError, match="for a detector") as caught:
        check_opset(21, detector=True)
    assert "18 to 20" in caught.value.hint
    assert set(OF_DETECTORS) < set(OPSETS)


@pytest.mark.parametrize("opset", [OPSETS.start, OPSETS.stop - 1])
def test_the_ends_of_the_range_are_written(tmp_path, opset):
    samples = held_out_part().tensors[0][:2]
    assert export_onnx(trained(), tmp_path / "m.onnx", samples=samples, opset=opset).opset == opset
