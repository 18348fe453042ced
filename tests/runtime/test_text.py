"""Names from anywhere, shown as they are and obeyed by no terminal."""

import unicodedata

import pytest

from topocompress.runtime.text import printable

CASES = {
    "plain": ("layer1.0.conv", "layer1.0.conv"),
    "colour": ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
    "title of the window": ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),
    "one-byte escape": ("\x9b31m", r"\x9b31m"),
    "back over what stands there": ("good\b\b\b\bbad\r", r"good\x08\x08\x08\x08bad\r"),
    "a line of its own": ("a\nError: b", r"a\nError: b"),
    "turned": ("\u202egnp.exe", r"\u202egnp.exe"),
    "hidden": ("a\u200bb\ufeff", r"a\u200bb\ufeff"),
    "half a character": ("caf\udce9", r"caf\udce9"),
    "other ends of a line": ("a\u2028b\x85c", r"a\u2028b\x85c"),
    "letters of any script": ("модель 模型 مدل é", "модель 模型 مدل é"),
    "joined emoji": ("👩\u200d💻", "👩\u200d💻"),
    "markup and emoji codes stay": ("[/]x [red]conv[/] :smiley:", "[/]x [red]conv[/] :smiley:"),
}


@pytest.mark.parametrize(("text", "shown"), CASES.values(), ids=CASES)
def test_what_is_shown(text, shown):
    assert printable(text) == shown


def test_lines_may_stay_and_look_like_none_of_ours():
    assert printable("a\x1b\nError: b", lines=True) == "a\\x1b\n  Error: b"


def test_nothing_of_unicode_is_obeyed():
    for code in range(0x110000):
        shown = printable(chr(code))
        shown.encode()
        assert unicodedata.category(shown[0]) not in ("Cc", "Cs", "Zl", "Zp")
