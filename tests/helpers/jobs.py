"""A loaded model and loaded data, by hand."""

from tests.helpers.trained import held_out_part, training_part
from topocompress.data.loading import Data
from topocompress.models.loading import LoadedModel
from topocompress.types import Architecture, Preprocessing


def loaded(module):
    architecture = Architecture(kind="object", name="tests:trained")
    return LoadedModel(
        module=module, architecture=architecture, preprocessing=Preprocessing(input_shape=(1, 8, 8)), source="trained"
    )


def data(**changes):
    facts = {"labelled": True, "classes": tuple("0123456789"), "source": "digits", "note": "", "skipped": ()}
    parts = {"calibration": held_out_part(), "train": training_part(), "evaluation": held_out_part()}
    return Data(**{**parts, **facts, "fingerprint": "sha256:0", **changes})
