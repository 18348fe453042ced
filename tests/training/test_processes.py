import pytest

from topocompress.errors import DataError
from topocompress.training import processes


@pytest.mark.parametrize(
    ("variables", "rank", "launched"),
    [
        ({}, 0, False),
        ({"RANK": "1"}, 0, False),  # of some other system
        ({"RANK": "1", "WORLD_SIZE": "1"}, 0, False),
        ({"RANK": "1", "WORLD_SIZE": "2"}, 1, True),
        ({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, 0, True),
        ({"LOCAL_RANK": "0", "WORLD_SIZE": ""}, 0, True),
    ],
)
def test_launchers_say_which_process_this_is(variables, rank, launched, monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert (processes.rank(), processes.is_main(), processes.launched()) == (rank, rank == 0, launched)


def test_what_only_one_process_can_do(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    processes.refuse_several("a comparison")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(DataError, match="a comparison runs in one process"):
        processes.refuse_several("a comparison")


def test_a_process_by_itself_does_everything():
    assert processes.from_main(lambda: 3) == 3
    with pytest.raises(KeyError) as caught:
        processes.from_main(lambda: {}["nothing"])
    assert not processes.is_echo(caught.value)
    assert processes.gathered("own") == ["own"]
    assert processes.part()
    processes.join()
