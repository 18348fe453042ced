from __future__ import annotations

import numpy as np
import pytest

from topocompress.deploy.measurement import Predictions
from topocompress.reporting.doubts import labels_doubted


def said(labels, outputs, confidence=0.95):
    labels, outputs = np.asarray(labels), np.asarray(outputs)
    accuracy = float((labels == outputs)[labels >= 0].mean())
    return labels_doubted(Predictions(classes=outputs, accuracy=accuracy, labels=labels, confidence=confidence))


def test_right_answers_raise_no_doubt():
    assert said([0, 1, 2] * 10, [0, 1, 2] * 10) == ()


@pytest.mark.parametrize("confidence", [0.4, None, 0.99])
def test_a_shift_is_told_whatever_the_confidence(confidence):
    (line,) = said([0, 1] * 10, [0, 2] * 10, confidence)
    assert "accuracy is 50.0 %, and 100.0 % with the classes in another order" in line
    assert "--classes" in line


def test_samples_without_labels_do_not_count():
    assert said([0, 1, -1, -1] * 10, [0, 1, 3, 3] * 10) == ()


def test_errors_here_and_there_are_no_shift():
    assert said([0, 1, 2, 3] * 10, [0, 1, 2, 2] * 10) == ()


def test_few_samples_say_something_where_outputs_are_sure():
    labels, outputs = [0, 1, 2, 3], [1, 2, 3, 0]
    (line,) = said(labels, outputs)
    assert "right no more often than by chance (0.0 %)" in line
    assert said(labels, outputs, 0.3) == ()
    assert said(labels, labels) == ()


def test_a_sure_network_that_answers_at_random():
    rng = np.random.default_rng(0)
    labels = np.arange(100) % 10
    (line,) = said(labels, rng.permutation(labels))
    assert "no more often than by chance" in line


def test_one_class_alone_says_nothing():
    assert said([0] * 20, [0] * 20) == ()


def test_no_labels():
    assert labels_doubted(Predictions(classes=np.zeros(4, np.int64), accuracy=None, confidence=0.9)) == ()
