"""Detectors: their channels are followed up to the raw outputs, and the boxes of two are compared."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torchvision.models.detection import fcos_resnet50_fpn, keypointrcnn_resnet50_fpn, maskrcnn_resnet50_fpn

from tests.helpers.tiny_nets import tiny_detector
from topocompress.criteria import Persistence
from topocompress.dependencies.groups import find_groups
from topocompress.deploy.export import export_onnx
from topocompress.deploy.measurement import agreement, evaluate
from topocompress.errors import CriterionError, ExportError
from topocompress.network.detectors import Boxes, box_agreement, boxes_of, common, followed, is_detector, judged
from topocompress.network.inference import all_outputs, evaluating
from topocompress.planning.plan import make_plan
from topocompress.surgery.removal import apply
from topocompress.surgery.trial import prunable_groups
from topocompress.workflows.single_steps import layer_costs, score

KINDS = ("fasterrcnn", "retinanet", "ssd")
IMAGE = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def boxes(*rows):
    """Boxes from (left, top, right, bottom, score, label)."""
    table = np.array(rows, dtype=np.float32).reshape(-1, 6)
    return Boxes(corners=table[:, :4], scores=table[:, 4], labels=table[:, 5].astype(np.int64))


LEFT, RIGHT = (0, 0, 10, 10), (20, 0, 30, 10)


# --- what is followed ---


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_followed_shares_layers_and_names(kind):
    model = tiny_detector(kind)
    core = followed(model)
    assert is_detector(model)
    assert {name: id(each) for name, each in core.named_parameters()} == {
        name: id(each) for name, each in model.named_parameters()
    }
    assert core.training == model.training


def test_another_network_is_followed_itself():
    model = nn.Conv2d(3, 4, 3)
    assert not is_detector(model)
    assert followed(model) is model


@pytest.mark.parametrize("build", [fcos_resnet50_fpn, maskrcnn_resnet50_fpn, keypointrcnn_resnet50_fpn])
def test_torchvisions_other_detectors_give_their_raw_outputs(build):
    torch.manual_seed(0)
    model = build(weights=None, weights_backbone=None)
    before = copy.deepcopy(vars(model.get_submodule("backbone")).get("_buffers"))
    with evaluating(model):
        raw = all_outputs(followed(model)(IMAGE))
    assert raw
    assert all(output.is_floating_point() and output.ndim in (2, 4) for output in raw)
    assert vars(model.get_submodule("backbone")).get("_buffers") == before


def test_the_pooling_of_regions_is_left_as_it_was():
    model = tiny_detector("fasterrcnn")
    with evaluating(model):
        followed(model)(IMAGE)
    assert model.roi_heads.box_roi_pool.scales is None  # it would remember the sizes of the first image


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_feeds_the_heads_outputs_or_sees_regions_is_kept(kind):
    groups = {group.root: group for group in find_groups(tiny_detector(kind), IMAGE)}
    free = {root for root, group in groups.items() if not group.protected}
    assert {"backbone.0", "backbone.2"} <= free  # the second is the neck's output, which the heads read
    assert all(group.part == "" for group in groups.values())
    for root, group in groups.items():
        if root.startswith("roi_heads"):
            assert "regions" in group.protected or "output" in group.protected
        elif root.endswith(("cls_logits", "bbox_pred", "bbox_reg")) or "module_list" in root:
            assert group.protected == "feeds the model's output"


@pytest.mark.parametrize("kind", KINDS)
def test_a_detector_is_pruned_and_still_detects(kind, tmp_path):
    model = tiny_detector(kind)
    groups = prunable_groups(model, IMAGE)
    scores = score(model, example=IMAGE, criterion="l1")
    plan = make_plan(scores, groups, layer_costs(model, IMAGE), ratio=0.5)
    smaller = apply(model, plan, example=IMAGE)
    assert smaller.backbone[0].out_channels == 4
    assert smaller.backbone[2].out_channels == 4
    with evaluating(smaller):
        (found,) = smaller(IMAGE)
    assert found["boxes"].shape[1] == 4
    check = export_onnx(smaller, tmp_path / "model.onnx", samples=IMAGE)
    assert check.top1_agreement > 0.95  # boxes of equal score may take each other's place
    assert check.max_rel < 1e-3  # nothing is resized


def test_boxes_that_pytorch_itself_does_not_find_again_need_not_be_found(tmp_path, monkeypatch):
    from topocompress.deploy import export

    found = []

    def other(session, inputs):
        """ONNX Runtime's boxes, a share of them moved away."""
        outputs = genuine(session, inputs)
        moved = outputs[0].copy()
        moved[: len(moved) // 5] += 1000
        return [moved, *outputs[1:]]

    def unstable(detector, batch):
        """What PyTorch would find, were it to lose half."""
        found.append(batch)
        with evaluating(detector):
            each = boxes_of(detector(batch))
        return [
            dataclasses.replace(one, corners=one.corners + 1000 * (np.arange(len(one.scores)) % 2 == 0)[:, None])
            for one in each
        ]

    genuine = export.run_session
    model = tiny_detector("retinanet")
    monkeypatch.setattr(export, "run_session", other)
    with pytest.raises(ExportError, match="PyTorch alone keeps 9"):
        export_onnx(model, tmp_path / "model.onnx", samples=IMAGE)
    monkeypatch.setattr(export, "_nudged", unstable)
    check = export_onnx(model, tmp_path / "model.onnx", samples=IMAGE)
    assert len(found) == 1
    assert check.stability == pytest.approx(0.5, abs=0.05)
    assert check.stability < check.top1_agreement < 0.8


def test_a_detector_whose_file_finds_other_boxes_is_not_written(tmp_path, monkeypatch):
    from topocompress.deploy import export

    genuine = export.to_onnx

    def tampered(model, example, opset):
        model = copy.deepcopy(model)
        for parameter in model.get_submodule("head.regression_head").parameters():
            parameter.data += 1.0
        return genuine(model, example, opset)

    monkeypatch.setattr(export, "to_onnx", tampered)
    with pytest.raises(ExportError, match="of the boxes they find in common"):
        export_onnx(tiny_detector("retinanet"), tmp_path / "model.onnx", samples=IMAGE)
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_filters_are_judged_by_all_raw_outputs_of_images_prepared_as_the_detector_does(kind):
    model = tiny_detector(kind)
    images = torch.cat([IMAGE, IMAGE.flip(-1)])
    with evaluating(model):
        together, alone = judged(model)(images), judged(model)(IMAGE)
        raw = all_outputs(followed(model)(model.transform(list(IMAGE))[0].tensors))
    assert together.shape == (2, alone.shape[1])
    torch.testing.assert_close(together[:1], alone)
    first = torch.nn.functional.adaptive_avg_pool2d(raw[0], 8).flatten()
    torch.testing.assert_close(alone[0, : len(first)], first)


@pytest.mark.parametrize("kind", KINDS)
def test_persistence_scores_every_prunable_filter_of_a_detector(kind):
    model = tiny_detector(kind)
    images = torch.rand(6, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    batches = [(images, torch.full((6,), -1))]
    found = score(model, batches, example=IMAGE, criterion=Persistence(looks=1))
    groups = [group for group in find_groups(model, IMAGE) if not group.protected]
    for group in groups:
        assert (found.layers[group.root].values > 0).any(), group.root  # heads of boxes as well as of classes


def test_a_criterion_of_the_loss_refuses_a_detector():
    batches = [(torch.cat([IMAGE, IMAGE.flip(-1)]), torch.tensor([0, 1]))]
    with pytest.raises(CriterionError, match="'taylor' needs one class per image"):
        score(tiny_detector("ssd"), batches, example=IMAGE, criterion="taylor")


# --- boxes ---


def test_boxes_are_read_from_what_a_detector_returns():
    output = [{"boxes": torch.ones(2, 4), "scores": torch.tensor([0.6, 0.4]), "labels": torch.tensor([1, 2])}]
    (found,) = boxes_of(output)
    assert found.corners.shape == (2, 4)
    assert found.certain().labels.tolist() == [1]
    assert boxes_of(torch.zeros(1, 2)) is None
    assert boxes_of({"out": torch.zeros(1, 2)}) is None


def test_boxes_in_common_are_of_one_class_and_overlap():
    first = boxes((*LEFT, 0.9, 1), (*RIGHT, 0.9, 1))
    second = boxes((*RIGHT, 0.9, 1), (*LEFT, 0.9, 2))
    assert common(first, second) == [(1, 0)]  # the other pair has two classes


def test_half_of_a_box_is_enough_and_less_is_not():
    whole, half, third = boxes((*LEFT, 1, 1)), boxes((0, 0, 5, 10, 1, 1)), boxes((0, 0, 3, 10, 1, 1))
    assert common(whole, half) == [(0, 0)]  # 50 of 100 pixels
    assert common(whole, third) == []


def test_a_box_is_counted_once_with_its_best_match():
    first = boxes((*LEFT, 0.9, 1))
    second = boxes((0, 0, 10, 8, 0.9, 1), (*LEFT, 0.9, 1))
    assert common(first, second) == [(0, 1)]


def test_agreement_of_boxes_by_hand():
    first = [boxes((*LEFT, 0.9, 1), (*RIGHT, 0.8, 1)), boxes((*LEFT, 0.2, 1))]
    second = [boxes((*LEFT, 0.7, 1)), boxes()]
    assert box_agreement(first, second) == pytest.approx(2 * 1 / 3)  # the uncertain box takes no part
    assert box_agreement([boxes()], [boxes()]) == 1.0


@given(
    st.lists(
        st.tuples(*[st.integers(0, 20)] * 4, st.floats(0, 1, width=32), st.integers(1, 3)),
        max_size=6,
    )
)
def test_a_detector_agrees_with_itself(rows):
    found = [boxes(*((min(a, c), min(b, d), max(a, c), max(b, d), score, label) for a, b, c, d, score, label in rows))]
    assert box_agreement(found, found) == 1.0


def test_a_detector_is_evaluated_by_its_boxes_and_labels_are_not_looked_at():
    model = tiny_detector("retinanet")
    predictions = evaluate(model, [(IMAGE, torch.tensor([7]))])
    assert predictions.accuracy is None
    assert len(predictions.boxes) == 1
    assert agreement(predictions, predictions) == 1.0
