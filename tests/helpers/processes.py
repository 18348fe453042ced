"""Processes that tests start: they import this checkout, and speak UTF-8 whatever the locale."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]


def environment(*folders: object, **variables: object) -> dict[str, str]:
    """This process's variables and some more; modules are found in these folders and in this checkout."""
    own = {"PYTHONPATH": os.pathsep.join(map(str, [*folders, ROOT])), "PYTHONUTF8": "1"}
    return {**os.environ, **own, **{name: str(value) for name, value in variables.items()}}


def python(
    *arguments: object, folders: tuple[object, ...] = (), check: bool = True, **options: Any
) -> subprocess.CompletedProcess[str]:
    """``python ARGUMENTS``, to its end; one that must succeed shows what it complained of."""
    command = [sys.executable, *map(str, arguments)]
    variables = options.pop("variables", {})
    done = subprocess.run(
        command, env=environment(*folders, **variables), capture_output=True, encoding="utf-8", check=False, **options
    )
    assert done.returncode == 0 or not check, done.stderr
    return done


def together(*arguments: object, count: int = 2, folders: tuple[object, ...] = ()) -> list[tuple[str, str]]:
    """``python ARGUMENTS`` as many times, as a launcher of distributed training starts it; what each printed."""
    (loopback, *_) = [
        name for name, found in psutil.net_if_addrs().items() if any(each.address == "127.0.0.1" for each in found)
    ]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    shared |= {"GLOO_SOCKET_IFNAME": loopback, "ACCELERATE_USE_CPU": "true"}  # whatever this machine calls itself
    command = [sys.executable, *map(str, arguments)]
    processes = [
        subprocess.Popen(
            command,
            env=environment(*folders, **shared, RANK=rank, LOCAL_RANK=rank),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        for rank in range(count)
    ]
    said = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0] * count, "".join(errors for _, errors in said)
    return said
