from tests.helpers.run_directories import run, saved  # noqa: F401 - fixtures
