import inspect

import pytest

from topocompress import errors
from topocompress.errors import OutputError, TopocompressError

LEAVES = [
    found
    for _, found in inspect.getmembers(errors, inspect.isclass)
    if issubclass(found, TopocompressError) and found is not TopocompressError
]
STANDARD = {
    "ModelError": ValueError,
    "DataError": ValueError,
    "CriterionError": ValueError,
    "TopologyError": ValueError,
    "PlanError": ValueError,
    "SurgeryError": RuntimeError,
    "TrainingError": RuntimeError,
    "ExportError": RuntimeError,
    "ArtifactError": ValueError,
    "OutputError": OSError,
    "OptionError": TypeError,
}


def test_every_class_of_error_is_known_to_these_tests():
    assert {leaf.__name__ for leaf in LEAVES} == set(STANDARD)


@pytest.mark.parametrize("leaf", LEAVES)
def test_each_error_is_ours_and_a_standard_one(leaf):
    with pytest.raises(STANDARD[leaf.__name__]):
        raise leaf("what is wrong")
    assert issubclass(leaf, TopocompressError)
    assert len(leaf.__doc__) > 20


@pytest.mark.parametrize("leaf", [TopocompressError, *LEAVES])
def test_an_error_prints_what_is_wrong_and_then_what_to_do(leaf):
    bare, advised = leaf("conv1 has 3 channels"), leaf("conv1 has 3 channels", hint="Use 4.")
    assert str(bare) == "conv1 has 3 channels"
    assert str(advised) == "conv1 has 3 channels\nUse 4."
    assert (advised.what, advised.hint, bare.hint) == ("conv1 has 3 channels", "Use 4.", "")


def test_a_hint_cannot_be_given_by_place():
    with pytest.raises(TypeError):
        OutputError("what", "hint")


@pytest.mark.parametrize(
    ("said", "spelled"),
    [
        ("--ratio 1.5 must lie between 0 and 1", "ratio=1.5 must lie between 0 and 1"),
        ("For example: --max-betti 300.", "For example: max_betti=300."),
        ("give --max-betti, --ratio and --target-macs", "give max_betti=, ratio= and target_macs="),
        ("--max-betti needs a criterion", "max_betti= needs a criterion"),
        ("Use --quantize int8.", "Use quantize='int8'."),
        ("--quantize 'int4' is unknown", "quantize='int4' is unknown"),
        ("Add --force to replace it", "Add force=True to replace it"),
        ("--no-reconstruct is slower", "reconstruct=False is slower"),
        ("--dims 2 is odd", "dimensions=2 is odd"),
        ("Fits --target-size 2.5MB already", "Fits target_size=2500000 already"),
        ("--arch pkg.module:factory, or load(path)", "arch='pkg.module:factory', or load(path)"),
        ("a--b, x --- y and -- z", "a--b, x --- y and -- z"),
    ],
)
def test_options_are_words_of_the_command_line_there_and_arguments_in_python(said, spelled):
    error = TopocompressError("what", hint=said)
    assert error.hint == said
    assert str(error) == f"what\n{spelled}"
