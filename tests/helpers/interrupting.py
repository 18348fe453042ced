"""Ctrl-C at a moment of the test's choosing."""

import contextlib
import signal

import pytest


@contextlib.contextmanager
def interrupted_after(owner, method, *, when=lambda *_: True):
    """The first call of a method that meets a condition is followed by the signal of Ctrl-C, as in a terminal."""
    original = getattr(owner, method)
    sent = []

    def then_stop(*arguments):
        found = original(*arguments)
        if not sent and when(*arguments):
            sent.append(True)
            signal.raise_signal(signal.SIGINT)
        return found

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # who starts the tests may ignore it
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(owner, method, then_stop)
            yield
    finally:
        signal.signal(signal.SIGINT, before)
    assert sent, f"{method} was not called"
