from __future__ import annotations

import os
import sys

# Before torch is imported. Tests start many processes: compiled once, torch is there in a third of the time; and each
# on one thread, they leave the other cores to the tests that run beside them.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

# Whatever terminal or launcher the tests were started from: a plain terminal of 80 columns, and one process.
for name in (
    *("FORCE_COLOR", "NO_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "PY_COLORS", "GITHUB_ACTIONS"),
    *("TERMINAL_WIDTH", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
):
    os.environ.pop(name, None)
os.environ.update(COLUMNS="80", LINES="25")

import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

from tests.helpers.commands import place  # noqa: E402, F401 - a fixture
from tests.helpers.delivering import unexported  # noqa: E402, F401 - a fixture
from tests.helpers.digits import digits  # noqa: E402, F401 - a fixture
from tests.helpers.exporting import read_operators_once  # noqa: E402
from tests.helpers.imagesets import write_images  # noqa: E402

# How long an example takes says how busy a machine is, and every run tries the same ones.
settings.register_profile(
    "usual", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("usual")


@pytest.fixture
def two_classes(tmp_path):
    write_images(tmp_path / "set" / "cat", 30, seed=1)
    write_images(tmp_path / "set" / "dog", 10, seed=2)
    return tmp_path / "set"


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """No test reads or fills the user's cache, nor another test's."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("TOPOCOMPRESS_CACHE", str(folder))
    return folder


@pytest.fixture(autouse=True)
def own_random_state():
    """No test depends on what was drawn before it."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def operators_read_once():
    with pytest.MonkeyPatch.context() as patch:
        read_operators_once(patch)
        yield


def pytest_configure(config):
    # Of two runs that clear their user's folders of earlier runs at once, pytest lets one leave a scan of them open.
    config.addinivalue_line("filterwarnings", "ignore:unclosed scandir iterator:ResourceWarning")
