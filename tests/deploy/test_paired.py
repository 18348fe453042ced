"""Two networks' answers to the same samples."""

import numpy as np

from topocompress.deploy.measurement import Predictions
from topocompress.deploy.paired import Paired, paired


def said(*classes, labels=None):
    known = None if labels is None else np.array(labels)
    return Predictions(classes=np.array(classes), accuracy=None, labels=known)


def test_it_counts_what_only_one_gets_right_of_what_is_known():
    labels = [0, 1, 2, 0, -1]
    first, second = said(0, 1, 0, 1, 2, labels=labels), said(0, 0, 2, 0, 1, labels=labels)
    assert paired(first, second) == Paired(only_first=1, only_second=2, samples=4)
    assert paired(second, first) == Paired(only_first=2, only_second=1, samples=4)


def test_without_labels_there_is_nothing_to_count():
    assert paired(said(0, 1), said(0, 1)) is None
    assert paired(said(labels=[0, 1]), said(0, 1, labels=[0, 1])) is None
