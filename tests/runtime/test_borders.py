"""Whatever foreign code raises becomes one error with its cause."""

import pytest

from topocompress.errors import DataError, ModelError
from topocompress.runtime.borders import border


class Silent(Exception):
    def __str__(self):
        raise RuntimeError("no words")


RAISED = {
    "an error": (ValueError("one\ntwo"), "ValueError: one"),
    "an error without words": (AssertionError(), "AssertionError"),
    "an error that cannot be said": (Silent(), "Silent: and RuntimeError while saying what"),
    "no memory": (MemoryError(), "MemoryError"),
    "too deep": (RecursionError("deep"), "RecursionError: deep"),
    "an end as if all were well": (SystemExit(0), "it ended the process by sys.exit(0)"),
    "an end": (SystemExit(), "it ended the process by sys.exit()"),
    "an end with words": (SystemExit("no"), "it ended the process by sys.exit('no')"),
}


@pytest.mark.parametrize(("error", "why"), RAISED.values(), ids=RAISED)
def test_everything_becomes_ours(error, why):
    with pytest.raises(ModelError) as caught, border(lambda reason: ModelError(f"cannot: {reason}", hint="do")):
        raise error
    assert caught.value.what == f"cannot: {why}"
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [DataError("ours", hint="h"), KeyboardInterrupt("stop"), GeneratorExit()])
def test_ours_and_interrupts_pass(error):
    with pytest.raises(type(error)) as caught, border(ModelError):
        raise error
    assert caught.value is error
