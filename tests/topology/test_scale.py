import pytest

from topocompress.errors import TopologyError
from topocompress.topology import Scale

GOOD = {
    "components:0.25": Scale("components", (0.25,)),
    "quantile:0.2": Scale("quantile", (0.2,)),
    "relative:0.5": Scale("relative", (0.5,)),
    "layer:1.25": Scale("layer", (1.25,)),
    "absolute:1e-05": Scale("absolute", (1e-5,)),
    "absolute:0.1234567890123": Scale("absolute", (0.1234567890123,)),
    "knn:14,2": Scale("knn", (14.0, 2.0)),
}


@pytest.mark.parametrize("text", GOOD)
def test_scales_are_read_and_written(text):
    assert Scale.parse(text) == GOOD[text]
    assert str(GOOD[text]) == text
    assert Scale.parse(str(Scale.parse(text))) == GOOD[text]


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "quantile",
            "quantile:",
            "quantile:x",
            "quantile:0",
            "quantile:1",
            "components:1",
            "quantile:-0.1",
            "quantile:0.1,0.2",
        ),
        *("quantil:0.2", "relative:nan", "relative:inf", "layer:0", "absolute:-1", "knn:14", "knn:14,2,1"),
        *("knn:1.5,2", "knn:0,1", "knn:3,0", "0.2", ":0.2", "absolute:1;2"),
    ],
)
def test_other_texts_are_refused_with_what_to_write(text):
    with pytest.raises(TopologyError, match="scale") as caught:
        Scale.parse(text)
    assert "quantile:0.2" in caught.value.hint
