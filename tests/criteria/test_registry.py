import pytest

from topocompress.criteria import L1, Betti, Random
from topocompress.criteria.registry import Declared, available, create, declared, split_names
from topocompress.errors import CriterionError, TopologyError


def offer(folder, monkeypatch, distribution: str, entries: dict[str, str], **modules: str) -> None:
    """Put a distribution on the path, as pip would leave it: modules, metadata and entry points."""
    info = folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n", encoding="utf-8")
    lines = "".join(f"{name} = {value}\n" for name, value in entries.items())
    (info / "entry_points.txt").write_text(f"[topocompress.criteria]\n{lines}", encoding="utf-8")
    for name, source in modules.items():
        (folder / f"{name}.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))


CLASS = '''
from topocompress.criteria import WeightCriterion

class {cls}(WeightCriterion):
    """First line (higher: keep).

    More.
    """
    name, higher = {name!r}, "keep"
    def score(self, weight):
        return weight.flatten(1).sum(dim=1)
'''


def source(cls: str, name: str) -> str:
    return CLASS.format(cls=cls, name=name)


def listed() -> dict:
    return {info.name: info for info in available()}


def test_built_in_criteria_are_listed_and_created():
    infos = listed()

    for name, cls in {"betti": Betti, "l1": L1, "random": Random}.items():
        assert infos[name].distribution == "topocompress"
        assert infos[name].summary == cls.__doc__.splitlines()[0]
        assert infos[name].error == ""
        assert type(create(name)) is cls


def test_options_reach_the_class():
    assert create("betti", scale="relative:0.5", dimensions=(1,)).settings() == {
        "scale": "relative:0.5",
        "dimensions": [1],
    }
    assert create("random", seed=4).settings() == {"seed": 4}


def test_settings_may_follow_the_name():
    assert create("betti+orientation=inverse+scale=knn:5,2+dimensions=0").settings() == {
        "scale": "knn:5,2",
        "dimensions": [0],
        "orientation": "inverse",
    }
    assert create("persistence+looks=3+signed=false").settings() == {
        "alone": 0.0,
        "batch": 100,
        "draws": 2,
        "norm": 0.8,
        "looks": 3,
        "seed": 0,
        "settled": False,
        "signed": False,
    }
    assert create("random+seed=7", seed=4).settings() == {"seed": 7}
    for wrong in ("l1+", "l1+strong", "betti+=3"):
        with pytest.raises(CriterionError, match="cannot read the setting"):
            create(wrong)


def test_names_are_split_at_commas_but_not_within_settings():
    text = "l1, betti+scale=knn:5,2+dimensions=0,1,bn-scale,"

    assert split_names(text) == ["l1", "betti+scale=knn:5,2+dimensions=0,1", "bn-scale"]


def test_an_option_that_does_not_exist_is_refused_by_name():
    with pytest.raises(CriterionError, match=r"'random'.*strength"):
        create("random", strength=3)


def test_a_wrong_setting_keeps_its_own_error():
    with pytest.raises(TopologyError, match="scale"):
        create("betti", scale="nonsense")


@pytest.mark.parametrize("name", sorted(entry.name for entry in available() if entry.distribution == "topocompress"))
def test_what_our_own_say_of_themselves_is_known_before_they_are_imported(name):
    said, made = declared(name), create(name)
    assert (said.higher, said.comparable) == (made.higher, made.comparable)


def test_a_setting_may_turn_the_direction_round_and_of_a_plugin_nothing_is_known():
    assert declared("betti+orientation=inverse") == Declared(higher=None, comparable=False)
    assert declared("persistence+draws=4").comparable is True
    assert declared("of-a-plugin") == Declared()


@pytest.mark.parametrize(("asked", "suggested"), [("bety", "betti"), ("l_1", "l1"), ("randm", "random")])
def test_an_unknown_name_gets_the_nearest_and_the_list(asked, suggested):
    with pytest.raises(CriterionError, match=f"unknown criterion '{asked}'") as caught:
        create(asked)
    assert f"Did you mean '{suggested}'?" in caught.value.hint
    assert "betti, bn-scale, chip, " in caught.value.hint


def test_a_name_like_no_other_gets_the_list_alone():
    with pytest.raises(CriterionError) as caught:
        create("zzzzz")
    assert "Did you mean" not in caught.value.hint
    assert "Available: betti, bn-scale, " in caught.value.hint


def test_a_plugin_is_listed_with_its_distribution_and_created(tmp_path, monkeypatch):
    entries = {"plugged-sum": "plugged_sum:Sum"}
    offer(tmp_path, monkeypatch, "topo-sum", entries, plugged_sum=source("Sum", "plugged-sum"))

    info = listed()["plugged-sum"]

    assert (info.distribution, info.summary, info.error) == ("topo-sum", "First line (higher: keep).", "")
    assert create("plugged-sum").name == "plugged-sum"


def test_plugins_follow_the_built_in_ones_by_name(tmp_path, monkeypatch):
    entries = {"zz-late": "plugged_many:Late", "aa-early": "plugged_many:Early"}
    text = source("Late", "zz-late") + source("Early", "aa-early")
    offer(tmp_path, monkeypatch, "topo-many", entries, plugged_many=text)

    names = [info.name for info in available()]

    built_in = ["persistence", "betti", "taylor", "chip", "hrank", "fpgm", "bn-scale", "l1", "l2", "random"]
    plugins = names[len(built_in) :]
    assert names[: len(built_in)] == built_in
    assert plugins == sorted(plugins)
    assert {"aa-early", "zz-late"} <= set(plugins)


def test_two_packages_with_one_name_are_both_named(tmp_path, monkeypatch):
    offer(tmp_path / "a", monkeypatch, "topo-one", {"same": "plugged_one:One"}, plugged_one=source("One", "same"))
    offer(tmp_path / "b", monkeypatch, "topo-two", {"same": "plugged_two:Two"}, plugged_two=source("Two", "same"))

    for call in (available, lambda: create("same"), lambda: create("l1")):
        with pytest.raises(CriterionError, match="'same'") as caught:
            call()
        assert "topo-one" in caught.value.what
        assert "topo-two" in caught.value.what
        assert "pip uninstall topo-" in caught.value.hint


def test_a_package_cannot_replace_a_built_in_criterion(tmp_path, monkeypatch):
    offer(tmp_path, monkeypatch, "topo-rival", {"betti": "plugged_rival:B"}, plugged_rival=source("B", "betti"))

    with pytest.raises(CriterionError, match="'betti': topocompress and topo-rival"):
        create("betti")


def test_one_distribution_found_twice_on_the_path_counts_once(tmp_path, monkeypatch):
    for folder in (tmp_path / "a", tmp_path / "b"):
        offer(folder, monkeypatch, "topo-twice", {"twice": "plugged_twice:T"}, plugged_twice=source("T", "twice"))

    assert [info.name for info in available()].count("twice") == 1


BROKEN = {
    "import error": ("import no_such_module_at_all", "ModuleNotFoundError: No module named 'no_such_module_at_all'"),
    "syntax error": ("class Broken(:", "SyntaxError"),
    "error at import": ("raise RuntimeError('licence expired')", "RuntimeError: licence expired"),
    "no such class": ("Other = 1", "AttributeError"),
    "not a criterion": ("class Broken: pass", "is not a criterion"),
    "an instance": (source("Broken", "broken") + "\nBroken = Broken()", "is not a criterion"),
    "another name": (source("Broken", "other"), "must set name = 'broken'"),
    "no direction": (source("Broken", "broken").replace('"keep"', '"up"'), "higher = 'keep' or 'remove'"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_plugin_is_reported_and_takes_nothing_down(how, tmp_path, monkeypatch):
    text, reason = BROKEN[how]
    module = f"plugged_broken_{how.replace(' ', '_')}"
    offer(tmp_path, monkeypatch, "topo-broken", {"broken": f"{module}:Broken"}, **{module: text})

    info = listed()["broken"]

    assert info.distribution == "topo-broken"
    assert info.summary == ""
    assert reason in info.error
    assert "topo-broken" in info.error
    assert type(create("l1")) is L1
    with pytest.raises(CriterionError, match="topo-broken"):
        create("broken")


def test_a_setting_of_the_wrong_kind_is_refused_with_the_settings_there_are():
    with pytest.raises(CriterionError, match="persistence") as caught:
        create("persistence+alone=many")
    assert "looks=9" in str(caught.value.hint)
    assert "alone=None" in str(caught.value.hint)
