"""Numbers with their natural units."""

from __future__ import annotations

import pytest

from tests.helpers.commands import BASE, run
from topocompress.cli.options import bytes_of, whole, whole_or_auto
from topocompress.cli.values import points, seconds, share, shares
from topocompress.errors import DataError, PlanError


@pytest.mark.parametrize(
    ("text", "value"), [("0.5", 0.5), ("50%", 0.5), (" 12.5 % ", 0.125), (".5", 0.5), ("5e-1", 0.5), ("30", 30.0)]
)
def test_a_share_is_a_number_or_percent(text: str, value: float) -> None:
    assert share("--ratio", text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["5ms", "5 ms", "0.2s", "1min"])
def test_a_time_where_a_share_is_asked_for_gets_what_to_type(text: str) -> None:
    with pytest.raises(PlanError, match="is a time, and it is a share of the original's latency") as caught:
        share("--target-latency", text)
    assert "--target-latency 0.6 is 4.8 ms" in caught.value.hint


@pytest.mark.parametrize("text", ["", "half", "%", "0.5x", "5 %%", "nan", "1,5"])
def test_what_is_no_share(text: str) -> None:
    with pytest.raises(PlanError, match="cannot read") as caught:
        share("--ratio", text)
    assert caught.value.hint == "A share of each layer's filters: --ratio 0.5, or --ratio 50%"


def test_several_shares() -> None:
    assert shares("--macs", "0.8,50%, 25 %") == pytest.approx([0.8, 0.5, 0.25])
    for text in ("0.8,150%", "0.8,", "0", "30"):
        with pytest.raises(PlanError, match="Numbers between 0 and 1"):
            shares("--macs", text)


@pytest.mark.parametrize(("text", "value"), [("1", 1.0), ("1%", 1.0), ("0.5 points", 0.5), ("1 point", 1.0)])
def test_points_of_accuracy(text: str, value: float) -> None:
    assert points("--max-accuracy-drop", text) == value


def test_what_is_not_said_is_none() -> None:
    assert share("--ratio", None) is None
    assert points("--max-accuracy-drop", None) is None
    with pytest.raises(PlanError, match="cannot read"):
        points("--max-accuracy-drop", "1 ms")


@pytest.mark.parametrize(("text", "value"), [("60", 60.0), ("60s", 60.0), ("2min", 120.0), ("500ms", 0.5)])
def test_a_time(text: str, value: float) -> None:
    assert seconds("--seconds", text) == value


@pytest.mark.parametrize("text", ["0", "-1", "1h", "1e9"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(DataError, match="cannot read seconds="):
        seconds("--seconds", text)


@pytest.mark.parametrize(
    ("text", "value"), [("800MB", 800_000_000), ("2G", 2_000_000_000), ("2gib", 2 << 30), ("1 MB", 1_000_000)]
)
def test_bytes(text: str, value: int) -> None:
    assert bytes_of(text) == value


@pytest.mark.parametrize(("text", "value"), [("1000", 1000), ("1k", 1000), ("1,000", 1000), ("auto", "auto")])
def test_numbers_of_samples(text: str, value: object) -> None:
    assert whole_or_auto("--samples", text) == value
    assert text == "auto" or whole("--eval-samples", text) == value


@pytest.mark.parametrize("text", ["1kk", "1,0", "k", "1.5", ""])
def test_what_is_no_number_of_samples(text: str) -> None:
    with pytest.raises(PlanError, match="give a whole number or auto"):
        whole_or_auto("--samples", text)
    with pytest.raises(PlanError, match=r"give a whole number$"):
        whole("--eval-samples", text, 10)
    with pytest.raises(PlanError, match="at most 2,000"):
        whole("--eval-samples", "2001", 2000)


@pytest.mark.usefixtures("place")
def test_percent_on_the_command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["prune", "tiny.safetensors", *BASE, "--criterion", "l1", "--dry-run", "--round-to", "1"]
    plans = []
    for given in ("50%", "0.5"):
        assert run(monkeypatch, *words, "--ratio", given) == 0
        plans.append(capsys.readouterr().out)
    assert plans[0] == plans[1]
    assert "channels go" in plans[0]
