"""The names below the networks of each family, kept so that they need not be built."""

import json

import pytest

from topocompress.models.families import TOP_LEVEL, built_top_level, families

KEPT = json.loads(TOP_LEVEL.read_text(encoding="utf-8"))["families"]


def test_every_family_is_kept():
    assert sorted(KEPT) == families()


@pytest.mark.parametrize("family", KEPT)
def test_what_is_kept_is_what_would_be_built(family):
    assert frozenset(KEPT[family]) == built_top_level(family)
