"""What the layout promises: the contracts of ``pyproject.toml``, short modules, public names, what is not loaded."""

import importlib
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

import topocompress
from tests.helpers.processes import python

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "topocompress"
FILES = sorted(PACKAGE.rglob("*.py"))


def test_imports_keep_the_contracts(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    broken = lint_imports(config_filename="pyproject.toml", no_cache=True)
    assert not broken, capsys.readouterr().out


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_is_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) < 300


def test_every_package_says_what_flows_through_it():
    packages = [path for path in PACKAGE.rglob("__init__.py") if path.parent not in (PACKAGE, PACKAGE / "cli")]
    assert len(packages) > 10
    for path in packages:
        text = " ".join(path.read_text(encoding="utf-8").split())
        assert all(word in text for word in ("In: ", "Out: ", "ay import")), path


def test_every_public_name_exists():
    for name in topocompress.__all__:
        assert callable(getattr(topocompress, name))
    with pytest.raises(AttributeError, match="nothing"):
        _ = topocompress.nothing


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("arena", "compare"),
        (
            "criteria",
            "Betti CHIP CloudCriterion Criterion GradientCriterion MapCriterion NormCriterion WeightCriterion",
        ),
        ("criteria.base", "CloudCriterion Criterion GradientCriterion MapCriterion NormCriterion WeightCriterion"),
        ("data", "Data batches load_data"),
        ("datasets", "annuli linked_tori naitzat nested_spheres nine_discs"),
        ("errors", "CriterionError TopocompressError"),
        ("models", "LoadedModel load_model"),
        ("persistence_plots", "plot_filter"),
        ("testing", "check_criterion"),
        ("topology", "Scale betti_numbers class_bettis layer_bettis neighbourhood_graph persistence_diagrams"),
        ("types", "Architecture ChannelGroup PruningPlan Scores"),
    ],
)
def test_names_of_documents_and_plugins_stay_where_they_are(module, names):
    found = importlib.import_module(f"topocompress.{module}")
    for name in names.split():
        assert callable(getattr(found, name))


def fresh(code):
    return python("-c", code).stdout


PACKAGES = ("torch", "torchvision", "onnx", "onnxruntime", "matplotlib", "sklearn", "numba", "joblib", "scipy", "gph")
HEAVY = f"[name for name in {PACKAGES!r} if name in sys.modules]"


def test_importing_the_package_and_its_command_line_does_not_wait_for_torch():
    assert fresh(f"import sys, topocompress, topocompress.cli; print({HEAVY})") == "[]\n"


ANSWERED = [
    (["--help"], 0),
    (["--version"], 0),
    (["criteria"], 0),
    (["prune", "--help"], 0),
    (["prune", "m", "--no-such-option"], 2),
    (["prune", "nosuch.pt", "--ratio", "0.5"], 2),
    (["prune", "resnet18", "--ratio", "0.5"], 2),
    (["prune", "resnet18x", "--ratio", "0.5"], 2),
    (["prune", "pyproject.toml", "--ratio", "0.5"], 2),
    (["prune", "tests", "--ratio", "0.5"], 2),
    (["prune", "digits", "--ratio", "0.5", "--max-betti", "300"], 2),
    (["prune", "digits", "--ratio", "0.5", "--arch", "resnet18x"], 2),
    (["prune", "digits", "--ratio", "0.5", "--data", "imagefolder:nosuch"], 2),
    (["prune", "digits", "--ratio", "0.5", "--data", "photos"], 2),
    (["prune", "digits", "--ratio", "0.5", "--mean", "grey"], 2),
    (["prune", "digits", "--ratio", "0.5", "--classes", "nosuch.txt"], 2),
    (["prune", "digits", "--ratio", "0.5", "--criterion", "l3"], 2),
    (["prune", "digits", "--ratio", "0.5", "--out", "tests"], 2),
    (["prune", "digits", "--ratio", "0.5", "--allocation", "globl"], 2),
    (["prune", "digits", "--target-macs", "0.5", "--allocation", "global", "--criterion", "l1"], 2),
    (["prune", "digits", "--max-betti", "300", "--criterion", "l1"], 2),
    (["prune", "digits", "--target-latency", "5ms"], 2),
    (["prune", "resnet18", "--weights", "DEFAULT", "--ratio", "0.5", "--trained-on"], 2),
    (["prune", "digits", "--ratio", "0.5", "--arch", "mynets.build"], 2),
    (["prune", "digits", "--target-size", "2"], 2),
    (["prune", "digits", "--data", "docs/images"], 2),
    (["prune", "digits", "--ratio", "0.5", "--finetune", "1", "--data", "docs/images"], 2),
    (["score", "nosuch.pt"], 2),
    (["score", "digits", "--plot", "plot.txt"], 2),
    (["inspect", "nosuch.pt", "--layer", "a", "--filter", "0"], 2),
    (["compare", "nosuch.pt"], 2),
    (["compare", "digits", "--round-to", "0"], 2),
    (["compare", "digits", "--criteria", "random,l1@global"], 2),
    (["compare", "digits", "--criteria", "persistence@everywhere"], 2),
    (["compare", "digits", "--finetune", "1", "--data", "docs/images"], 2),
    (["sweep", "digits", "--finetune", "1", "--data", "docs/images"], 2),
    (["sweep", "nosuch.pt"], 2),
    (["sweep", "digits", "--allocation", "global", "--criterion", "fpgm"], 2),
    (["bench", "nosuch.onnx"], 2),
]


@pytest.mark.parametrize(("arguments", "code"), ANSWERED, ids=[" ".join(given) for given, _ in ANSWERED])
def test_what_can_be_answered_without_torch_does_not_wait_for_it(arguments, code):
    script = (
        "import sys\n"
        f"sys.argv = ['topocompress', *{arguments!r}]\n"
        "from topocompress.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as stop:\n    print('exit', stop.code or 0)\n"
        f"print('loaded', {HEAVY})"
    )
    output = fresh(script)
    assert f"exit {code}\nloaded []" in output
    assert len(output.splitlines()) > 2 or code


def test_processes_that_score_clouds_do_not_load_torch():
    code = (
        "import sys, pickle\n"
        "import numpy as np\n"
        "from topocompress.scoring import workers as tasks\n"
        "from topocompress.criteria.betti import Betti\n"
        "for scale in ('quantile:0.2', 'layer:0.5', 'knn:3,2'):\n"
        "    criterion = pickle.loads(pickle.dumps(Betti(scale=scale, dimensions=(0, 1, 2))))\n"
        "    clouds = np.random.default_rng(0).standard_normal((2, 30, 4)).astype(np.float32)\n"
        "    scores, dead = tasks.score_filters(criterion, clouds, 1.0, 'cpu')\n"
        "    assert scores.shape == (2, 3) and not dead.any()\n"
        "assert len(tasks.first_looks(criterion, clouds, 'cpu')) == 2\n"
        "print([name for name in ('torch', 'torchvision', 'onnx', 'matplotlib') if name in sys.modules])"
    )
    assert fresh(code) == "[]\n"
