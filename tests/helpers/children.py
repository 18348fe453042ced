"""Processes and descriptors of this process, and small tasks for workers."""

import os

import numpy as np
import psutil
from threadpoolctl import threadpool_info


def workers_left() -> list[list[str]]:
    """Command lines of worker processes that are there; trackers, which end with the interpreter, do not count."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            line = process.cmdline()
        except psutil.NoSuchProcess:
            continue
        if line and "resource_tracker" not in " ".join(line):
            found.append(line)
    return found


def descriptors() -> int:
    return psutil.Process().num_fds()


def double(number):
    return 2 * number


def process(_):
    return os.getpid()


def divide(number):
    return 1 / number


def threads(_):
    return max(library["num_threads"] for library in threadpool_info())


def describe_array(array):
    """What a task sees of an array: its kind, file, numbers, and whether it can be written."""
    try:
        array[...] = 7
        written = True
    except ValueError:
        written = False
    return type(array).__name__, str(getattr(array, "filename", None)), np.array(array).tolist(), written
