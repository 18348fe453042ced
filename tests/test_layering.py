"""The architecture, read off the source: who may import whom, and what."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import topocompress

ROOT = Path(topocompress.__file__).parent
# From the ground up: a module imports only what stands before it.
ROWS = (
    (
        "errors",
        "types",
        "compiling",
        "results",
        "comparisons",
        "files",
        "factories",
        "_inference_process",
        "digits",
        "inference",
        "memory_layout",
        "batchnorm",
        "detectors",
        "environment",
        "ranks",
        "recipe",
    ),
    ("rules", "ranking", "allocation", "planning", "controls", "remedies", "holdups", "rounds", "selection"),
    ("timm_networks", "architectures", "preprocessing", "recognition", "checkpoints", "models"),
    ("images", "samplesets", "splits", "sources", "data", "datasets", "folds", "activation"),
    ("topology.scale", "topology.bits", "topology.distances", "topology.hops", "topology.graphs", "topology.links"),
    ("topology.reduction", "topology.elimination", "topology.backends", "topology.betti", "topology.trees", "topology"),
    ("criteria.base", "criteria.betti", "criteria.taylor", "criteria.persistence", "criteria.chip", "criteria.hrank"),
    ("criteria.fpgm", "criteria.bn_scale", "criteria.l1", "criteria.l2", "criteria.random", "criteria"),
    ("criteria.registry",),
    (
        "resources",
        "parallel",
        "heap",
        "arrays",
        "taps",
        "gates",
        "capture",
        "topology.layers",
        "tasks",
        "score_store",
        "result_store",
    ),
    ("cloud_scoring", "map_scoring", "joint", "units", "gradient_scoring", "scoring"),
    ("tracing", "heads", "attention", "routes", "groups", "surgery", "swapping", "probing", "artifact"),
    (
        "training_set",
        "augmentation",
        "random_state",
        "accelerating",
        "objective",
        "tuning_store",
        "trainer",
        "finetuning",
        "onnx_graphs",
        "export",
        "measurement",
        "latency",
        "benching",
        "profiling",
        "quantizing",
    ),
    (
        "verbs",
        "inspection",
        "testing",
        "quantities",
        "wording",
        "page",
        "report",
        "verdicts",
        "plots",
        "persistence_plots",
    ),
    ("tuning", "steps", "delivery", "budgets", "shrinking", "sweeping", "describe", "arena", "pipeline", "console"),
    (
        "cli.running",
        "cli.options",
        "cli.opening",
        "cli.option_groups",
        "cli.tuning_options",
        "cli.bench",
        "cli.compare",
        "cli.criteria",
        "cli.demo",
        "cli.inspect",
        "cli.prune",
        "cli.score",
        "cli.sweep",
    ),
    ("cli", "cli.reference"),
    ("__main__",),
)
ORDER = [module for row in ROWS for module in row]
FENCES = {
    "accelerate": {"accelerating", "trainer"},
    "gph": {"topology.backends"},
    "ripser": {"topology.backends"},
    "numba": {"compiling", "topology.bits"},
    "llvmlite": {"topology.bits"},
    "joblib": {"parallel", "resources"},
    "distributed": {"parallel"},
    "threadpoolctl": {"parallel"},
    "psutil": {"resources", "_inference_process"},
    "platformdirs": {"score_store"},
    "torch_pruning": {"tracing", "routes", "surgery"},
    "onnx": {"onnx_graphs", "export", "measurement", "profiling"},
    "onnxruntime": {"export", "measurement", "latency", "benching", "profiling", "quantizing", "_inference_process"},
    "onnxscript": {"onnx_graphs", "export", "measurement"},
    "rich": {"console"},
    "typer": {module for module in ORDER if module.split(".")[0] == "cli"},
    "matplotlib": {"plots", "persistence_plots"},
    "jinja2": {"page"},
    "safetensors": {"artifact", "checkpoints", "tuning_store"},
    "timm": {"timm_networks"},
}
FILES = sorted(ROOT.rglob("*.py"))


def name_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


TREES = {name_of(path): ast.parse(path.read_text(encoding="utf-8")) for path in FILES}


def imports(tree):
    """Every imported name with dots, those inside functions and under TYPE_CHECKING too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own(imported):
    """The module of ours that an imported name belongs to; ``None`` for others' and for the package itself."""
    parts = imported.split(".")
    if parts[0] != "topocompress":
        return None
    for length in range(len(parts), 1, -1):
        if ".".join(parts[1:length]) in TREES:
            return ".".join(parts[1:length])
    return None


def test_every_module_has_a_place_in_the_order():
    assert sorted(ORDER) == sorted(set(TREES) - {"__init__"})


@pytest.mark.parametrize("module", [module for module in TREES if module != "__init__"])
def test_a_module_imports_only_what_stands_below_it(module):
    upward = {
        found
        for imported in imports(TREES[module])
        if (found := own(imported)) not in (None, module) and ORDER.index(found) >= ORDER.index(module)
    }
    assert not upward


def test_the_package_itself_imports_nothing_until_asked():
    tree = TREES["__init__"]
    lazy = [node for node in tree.body if isinstance(node, ast.If)]
    assert [ast.unparse(node.test) for node in lazy] == ["TYPE_CHECKING"]
    tree.body = [node for node in tree.body if node not in lazy]
    assert {imported.split(".")[0] for imported in imports(tree)} == {"__future__", "importlib", "typing"}


@pytest.mark.parametrize("package", FENCES)
def test_a_third_party_package_stays_behind_its_fence(package):
    users = {
        module for module, tree in TREES.items() if any(imported.split(".")[0] == package for imported in imports(tree))
    }
    assert users <= FENCES[package]
    assert users or package == "onnxscript"  # used by torch's exporter only


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_module_is_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) < 300


def mutable(node):
    calls = {"list", "dict", "set", "bytearray", "defaultdict"}
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in calls
    return isinstance(node, (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp))


@pytest.mark.parametrize("module", TREES)
def test_no_default_argument_is_mutable_and_no_except_is_bare(module):
    for node in ast.walk(TREES[module]):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            defaults = [*node.args.defaults, *(default for default in node.args.kw_defaults if default)]
            assert not any(mutable(default) for default in defaults), f"line {node.lineno}"
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"line {node.lineno}"


def test_every_public_name_exists_and_is_where_the_types_say():
    declared = {}
    for node in ast.walk(ast.parse(Path(topocompress.__file__).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("topocompress."):
            declared |= {alias.name: node.module for alias in node.names}
    assert set(declared) == set(topocompress.__all__)
    for name, module in declared.items():
        found = getattr(topocompress, name)
        assert callable(found)
        assert found is getattr(sys.modules[module], name)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = topocompress.nothing


def fresh(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


PACKAGES = ("torch", "torchvision", "onnx", "onnxruntime", "matplotlib", "sklearn", "numba", "joblib", "scipy", "gph")
HEAVY = f"[name for name in {PACKAGES!r} if name in sys.modules]"


def test_importing_the_package_and_its_command_line_does_not_wait_for_torch():
    assert fresh(f"import sys, topocompress, topocompress.cli; print({HEAVY})") == "[]\n"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["prune", "--help"], ["prune", "m", "--no-such-option"]]
)
def test_help_version_and_argument_errors_do_not_wait_for_torch(arguments):
    code = (
        "import sys\n"
        f"sys.argv = ['topocompress', *{arguments!r}]\n"
        "from topocompress.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as stop:\n    print('exit', stop.code or 0)\n"
        f"print('loaded', {HEAVY})"
    )
    output = fresh(code)
    assert f"exit {2 if '--no-such-option' in arguments else 0}\nloaded []" in output
    assert len(output.splitlines()) > 2 or "--no-such-option" in arguments


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
        "assert tasks.spreads(clouds, 'cpu').min() > 0\n"
        "print([name for name in ('torch', 'torchvision', 'onnx', 'matplotlib') if name in sys.modules])"
    )
    assert fresh(code) == "[]\n"
