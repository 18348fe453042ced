"""Files of results: what is written comes back, one record a line, and no half file is ever seen."""

import json

import pytest

from benchmarks.common import results
from benchmarks.common.results import FOLDER, LONGEST, Results, read, write

RECORD = {"steps": [1.5, None, 1e-9], "name": "up to ε", "fine": True, "parts": [[1, 2], {}]}


def records(text):
    """The lines between the braces, each by itself."""
    return [line.strip().removesuffix(",") for line in text.splitlines()[1:-1]]


@pytest.mark.parametrize("content", [{}, [], 7, {"b": RECORD, "a": 1, "": []}, [RECORD, [RECORD]], {"rows": [RECORD]}])
def test_what_is_written_comes_back_in_its_order(tmp_path, content):
    write(tmp_path / "new" / "results.json", content)
    assert json.dumps(read(tmp_path / "new" / "results.json")) == json.dumps(content)


def test_a_record_has_a_line(tmp_path):
    write(tmp_path / "results.json", {"b": RECORD, "a": RECORD, "c": 3})
    first, *_, last = (tmp_path / "results.json").read_text(encoding="utf-8").splitlines()
    lines = records((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert (first, last) == ("{", "}")
    assert [json.loads(f"{{{line}}}") for line in lines] == [{"b": RECORD}, {"a": RECORD}, {"c": 3}]
    assert "ε" in lines[0]
    write(tmp_path / "results.json", [RECORD, 2])
    assert [json.loads(line) for line in records((tmp_path / "results.json").read_text())] == [RECORD, 2]


def test_what_is_too_long_for_a_line_has_one_for_each_part(tmp_path):
    models = {f"net{number}": {"macs": [number] * 1000} for number in range(9)}
    assert len(json.dumps(models)) > LONGEST
    write(tmp_path / "results.json", {"models": models, "machine": "here"})
    text = (tmp_path / "results.json").read_text()
    assert read(tmp_path / "results.json") == {"models": models, "machine": "here"}
    assert sum("net" in line for line in text.splitlines()) == 9
    assert max(map(len, text.splitlines())) < LONGEST


def test_names_that_are_numbers_are_text(tmp_path):
    write(tmp_path / "results.json", {1: {2: 3}})
    assert read(tmp_path / "results.json") == {"1": {"2": 3}}


def test_no_file_holds_nothing(tmp_path):
    assert read(tmp_path / "results.json") == {}


def test_a_file_is_whole_or_as_it_was(tmp_path, monkeypatch):
    write(tmp_path / "results.json", {"a": 1})
    with pytest.raises(TypeError):
        write(tmp_path / "results.json", {"a": object()})

    def failing(*_):
        yield "{"
        raise KeyboardInterrupt

    monkeypatch.setattr(results, "_lines", failing)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "results.json", {"a": 2})
    assert read(tmp_path / "results.json") == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]


def test_a_record_is_measured_once_and_kept_at_once(tmp_path):
    measured = []

    def measure():
        measured.append(1)
        return len(measured)

    for name in ("b", "a", "b"):
        Results(tmp_path / "results.json").once(name, measure)
    assert len(measured) == 2
    found = read(tmp_path / "results.json")
    assert {name: found[name] for name in "ab"} == {"a": 2, "b": 1}
    assert list(found) == ["a", "b", "machine"]
    assert found["machine"]["cores"]


@pytest.mark.parametrize("file", sorted(FOLDER.iterdir()), ids=lambda file: file.name)
def test_the_kept_files_are_as_they_would_be_written(file, tmp_path):
    write(tmp_path / file.name, read(file))
    assert (tmp_path / file.name).read_bytes() == file.read_bytes()
