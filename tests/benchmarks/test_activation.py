"""The tools of ``benchmarks.activation``."""

import gzip
import math
import tarfile

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from benchmarks.activation import betti
from benchmarks.activation.__main__ import insert
from benchmarks.activation.betti import TRIED, VARIANTS, area, counted, halved, points_of, totals_of, train
from benchmarks.activation.data import Images, chosen, cifar
from benchmarks.activation.image_page import reached
from benchmarks.activation.images import KINDS, LONGER, STEPS, TRIED_ON, moments, network, row, study
from benchmarks.activation.page import tables, tried
from benchmarks.activation.plots import draw
from benchmarks.activation.replay import CPU
from benchmarks.activation.runs import AVERAGED, BATCH, Runs
from benchmarks.activation.sets import DEPTH, TASKS
from benchmarks.activation.stack import Samples, Stack, Training
from benchmarks.activation.steps import spread
from benchmarks.activation.zoo import ACTIVATIONS, CANDIDATES, FIRST, IMAGE, OURS, gain, in_first_layer, layer
from benchmarks.common.results import Results
from topocompress import TopologicalActivation
from topocompress.topology.layers import class_bettis


def normal(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def samples():
    points = normal(600, 2)
    labels = (points.prod(dim=1) > 0).long()
    return Samples(training=(points, labels), test=(points[:100], labels[:100]))


@pytest.mark.parametrize("name", [OURS, "ReLU", "ParametricSplit"])
def test_a_run_in_a_stack_is_what_it_would_be_alone(samples, name):
    seeds, rates = [3, 4], [1e-3, 1e-2]

    def trained(seeds, rates):
        training = Training(Stack(name, 2, 5, 2, seeds), samples, rates, seeds)
        training.run(4)
        return [tensor.detach() for tensor in training.stack.tensors()]

    together = trained(seeds, rates)
    for place in (0, 1):
        for mine, alone in zip(together, trained(seeds[place : place + 1], rates[place : place + 1]), strict=True):
            torch.testing.assert_close(mine[place : place + 1], alone, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_a_stack_steps_as_torchs_adam_does(samples, decay):
    stack = Stack("ReLU", 2, 4, 1, [5])
    copies = [tensor.detach().clone().requires_grad_() for tensor in stack.tensors()]
    matrices, biases = copies[::2], copies[1::2]
    groups = [{"params": matrices, "weight_decay": decay}, {"params": biases, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=0.01)
    points, labels = samples.training
    chosen = torch.from_numpy(np.random.default_rng([7, 5]).permutation(600)[:512])
    first, second, third, fourth = copies
    logits = F.relu(points[chosen] @ first[0] + second[0]) @ third[0] + fourth[0]
    F.cross_entropy(logits, labels[chosen]).backward()
    optimiser.step()
    Training(stack, samples, [0.01], [5], decay=decay).run(1)
    for found, expected in zip(stack.tensors(), copies, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_works_as_a_layer_and_its_gain_gives_mean_square_1(name):
    generator = torch.Generator().manual_seed(0)
    outputs = layer(name, 6, generator)(normal(2, 6, 4, 4))
    assert outputs.shape == (2, 6, 4, 4)
    assert torch.isfinite(outputs).all()
    activation = ACTIVATIONS[name]
    started = activation.start((1, 1, 6), (1, 1, 1), torch.Generator().manual_seed(0))
    scaled = gain(activation, (1, 1, 6), (1, 1, 1)) * activation.call(normal(1, 50_000, 6), started)
    if name != "ParametricSplit":  # its parameters are drawn
        assert float(scaled.detach().square().mean()) == pytest.approx(1, abs=0.05)


def test_parametric_split_is_a_shifted_relu_at_0():
    inputs = normal(50)
    zero = torch.zeros(1)
    found = ACTIVATIONS["ParametricSplit"].call(inputs, (zero, zero))
    torch.testing.assert_close(found, F.relu(inputs - 1))


def test_steps_are_summed_up_with_failures_last():
    assert spread([10.0, 20.0, 30.0, 40.0, 50.0]) == "30 (20–40)"
    assert spread([10.0, 20.0, 30.0, None, None]) == "30 (20–never)"
    assert spread([10.0, None, None]) == "never"


def test_the_first_test_that_is_good_enough_counts():
    tests = moments(STEPS[10])
    rising = np.linspace(0, 1, len(tests))
    assert reached(rising, float(rising[7])) == tests[7]
    assert reached(rising, math.inf) is None


def test_the_last_three_tests_are_in_the_last_twentieth():
    for steps in STEPS.values():
        tests = moments(steps)
        assert tests[-1] == steps
        assert tests[-4] < 0.95 * steps < tests[-3]


def test_a_stack_takes_an_activation_for_each_layer_and_the_start_of_linear_layers():
    stack = Stack(in_first_layer(2), 2, 400, 2, [0], plain=True)
    assert [len(own) for own in stack.parameters] == [1, 0]
    weights, biases = (each.detach() for each in stack.layers[1])
    assert float(weights.std()) == pytest.approx(1 / math.sqrt(3 * 400), rel=0.02)
    assert float(biases.abs().max()) <= 1 / math.sqrt(400)


def test_betti_numbers_of_a_network_are_summed_up():
    network = [[(1, 3), (2, 2)], [(1, 1), (2, 2)], [(1, 0), (1, 0)], [(1, 0), (3, 0)], [(1, 0), (1, 0)]]
    assert totals_of(network) == [8, 6, 2, 4, 2]
    assert area(network) == pytest.approx((6 + 2 + 4) / 3 / 8)
    assert halved(network) == 4
    assert halved(network[:2]) == 2


def test_networks_that_failed_count_only_where_all_did():
    row = {"networks": ["first", "second", "third"]}
    assert counted(row, {"steps": [10.0, None, 30.0]}) == ["first", "third"]
    assert counted(row, {"steps": [None, None, None]}) == ["first", "second", "third"]


def test_ours_in_the_first_layer_is_the_module_there_and_silu_behind_it():
    inputs = normal(5, 7)
    leading, *others = in_first_layer(3)
    two, waved, gelu = in_first_layer(3, frequency=1.5, amplitude=0.5, waves=2, behind="GELU")
    assert two is waved
    torch.testing.assert_close(gelu.call(inputs, ()), F.gelu(inputs))
    torch.testing.assert_close(
        two.call(inputs, two.start((7,), (1,), None)),
        TopologicalActivation(7, frequency=1.5, amplitude=0.5)(inputs),
    )
    module = TopologicalActivation(7, frequency=4.0)
    torch.testing.assert_close(leading.call(inputs, leading.start((7,), (1,), None)), module(inputs))
    assert len(others) == 2
    for other in others:
        torch.testing.assert_close(other.call(inputs, ()), F.silu(inputs))


@pytest.mark.parametrize("title", ["D-I", "D-II", "D-III"])
def test_the_betti_numbers_of_a_set_are_recovered_at_the_input(title):
    task = TASKS[title]
    points, labels = points_of(task)
    dimensions = tuple(range(len(task.source.betti[0])))
    found = class_bettis(points, labels, neighbours=task.neighbours, dimensions=dimensions)
    assert tuple(found.values()) == task.source.betti


def measured():
    """Made-up results of the study on one set."""
    steps = {level: [10.0] * 10 for level in ("0.90", "0.95", "0.99")}
    rows = {f"sets/D-I/{name}/runs": {"rate": 0.01, "steps": steps} for name in (OURS, "SiLU")}
    rows["sets/D-I/ReLU/runs"] = {"rate": 0.01, "steps": {level: [40.0] * 10 for level in steps}}
    rows["cost-dense"] = {"32": {OURS: 6.0, "ReLU": 3.0, "SiLU": 4.5}}
    network = [[[9, 0], [1, 9]], *[[[3, 0], [1, 1]]] * DEPTH, [[1, 0], [1, 0]]]
    layers = ["input", *map(str, range(1, DEPTH + 1)), "logits"]
    for name in VARIANTS:
        rows[f"betti/D-I/{name}"] = {"layers": layers, "networks": [network] * 3}
        hits = [None] * 3 if name == "tanh" else [50.0, 50.0, None]
        rows[f"betti-networks/D-I/{name}"] = {"steps": hits, "best": [0.9] * 3}
    rows["tried/D-I/frequency 6"] = rows["betti/D-I/ReLU"]
    rows["tried-networks/D-I/frequency 6"] = rows["betti-networks/D-I/ReLU"]
    return rows


def test_the_page_shows_time_beside_steps_and_failures_beside_betti_numbers():
    page = tables(measured())
    assert f"| {OURS} | 0.01 | 10 (10–10) | 10 (10–10) | 10 (10–10) | 0 | 0.50× |" in page
    assert "| ReLU | 0.01 | 40 (40–40) | 40 (40–40) | 40 (40–40) | 0 | 1.00× |" in page
    assert f"| {FIRST} | 50 (50–never), 1 of 3 failed | 19 | 5 | 5 | 5 | 5 | 5 | 5 | 2 | 0.26 | 1 |" in page
    assert "| tanh | never (best 90.0 %) | 19 |" in page
    assert "frequency 6" not in page
    assert "| frequency 6 | 50 (50–never), 1 of 3 failed | 19 | 5 |" in tried(measured())
    assert "Not counted yet: frequency 4; frequency 4, decay 0.1" in tried(measured())
    assert not tried({})


def test_networks_that_have_been_counted_are_not_trained_again(tmp_path, monkeypatch):
    trained = []

    def training(self, file):
        trained.append((self.name, file.name))
        return {"rate": 0.01, "steps": [1.0]}

    monkeypatch.setattr(betti._Networks, "train", training)
    monkeypatch.setattr(betti.Samples, "of", lambda *_: None)
    results = Results(tmp_path / "results.json")
    train(results, tmp_path, TRIED, deadline=float("inf"))
    assert len(trained) == len({file for _, file in trained}) == 3 * len(TRIED.variants)
    for done in list(results.rows):
        results.rows[done.replace("tried-networks", "tried")] = {}
    (tmp_path / "tried-D-I-frequency-4.safetensors").touch()
    del results.rows["tried/D-I/frequency 4"], results.rows["tried/D-I/frequency 6"]
    train(results, tmp_path, TRIED, deadline=float("inf"))
    assert trained[3 * len(TRIED.variants) :] == [("frequency 6", "tried-D-I-frequency-6.safetensors")]


def test_the_pictures_are_drawn(tmp_path):
    draw(measured(), tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {
        f"activation-{name}.png" for name in ("fold", "steps", "betti")
    }


def pictures(count=200, classes=2):
    labels = torch.arange(count) % classes
    pixels = (normal(count, 8, 8, 1) + labels[:, None, None, None]).permute(0, 3, 1, 2)
    return Images(training=(pixels, labels), test=(pixels[:60], labels[:60]), classes=classes)


@pytest.mark.parametrize("norm", [False, True])
def test_cnns_side_by_side_step_as_torchs_adam_does(norm):
    images, steps = pictures(), 4

    def make(seed):
        return network("SiLU", 1, 2, seed, norm=norm, widths=(3, 3, 4, 4))

    runs = Runs(make, 2, images, steps, CPU)
    runs.begin([5, 6], [0.02, 0.02])
    for _ in range(steps):
        runs.step()
    found = runs.accuracies()
    assert len(found) == 2
    pixels, labels = images.training
    for place, seed in enumerate((5, 6)):
        model = make(seed)
        mean = {name: value.clone() for name, value in model.state_dict().items()}
        optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
        draw = np.random.default_rng([7, seed])
        batches = [draw.permutation(200)[: 3 * BATCH].reshape(3, BATCH) for _ in range(2)]
        for batch in np.concatenate(batches)[:steps]:
            optimiser.zero_grad()
            F.cross_entropy(model(pixels[batch]), labels[batch]).backward()
            optimiser.step()
            for name, value in model.state_dict().items():
                if value.is_floating_point():
                    mean[name].lerp_(value, 1 - AVERAGED)
        model.load_state_dict(mean)
        with torch.no_grad():
            right = (model.eval()(images.test[0]).argmax(1) == images.test[1]).double().mean()
        assert found[place] == pytest.approx(float(right), abs=1 / 60)
        state = runs._runs[place].averaged.state_dict()
        for name, value in mean.items():
            if value.is_floating_point():
                torch.testing.assert_close(state[name], value, rtol=1e-3, atol=1e-4)


def test_cnns_in_16_bits_learn_what_they_do_in_32():
    found = []
    for precision in ("no", "bf16"):
        runs = Runs(lambda seed: network("GELU", 1, 2, seed, norm=True), 1, pictures(), 6, CPU, precision)
        runs.begin([1], [0.01])
        for _ in range(6):
            runs.step()
        weights = list(runs._runs[0].model.parameters())
        assert all(value.dtype == torch.float32 for value in weights)
        found.append(torch.cat([value.detach().flatten() for value in weights]))
    start = torch.cat([value.detach().flatten() for value in network("GELU", 1, 2, 1, norm=True).parameters()])
    moved, difference = (found[0] - start).norm(), (found[1] - found[0]).norm()
    assert 0 < difference < 0.2 * moved


def test_mish_by_one_exponential_is_mish():
    inputs = torch.cat([torch.linspace(-30, 30, 601), torch.tensor([-200.0, 200.0])]).requires_grad_()
    plain, quick = (call(inputs, ()) for call in (ACTIVATIONS["Mish"].call, ACTIVATIONS["Mish"].compiled))
    torch.testing.assert_close(quick, plain)
    torch.testing.assert_close(
        *(torch.autograd.grad(each.sum(), inputs)[0] for each in (quick, plain)), atol=1e-5, rtol=1e-5
    )


def test_runs_that_begin_anew_forget_what_they_have_learned():
    runs = Runs(lambda seed: network("ReLU", 1, 2, seed, norm=True, widths=(3, 3, 4, 4)), 1, pictures(), 3, CPU)
    kept = []
    for _ in range(2):
        runs.begin([1], [0.01])
        for _ in range(3):
            runs.step()
        kept.append([value.clone() for value in runs._runs[0].averaged.state_dict().values()])
    for first, second in zip(*kept, strict=True):
        torch.testing.assert_close(first, second)


def test_ours_on_a_gpu_is_the_products_module():
    module = layer(OURS, 3, torch.Generator()).module
    inputs = (3 * normal(2, 3, 4, 4)).requires_grad_()
    formula = IMAGE.call(inputs, (-module.amplitude.view(3, 1, 1),))
    expected = torch.autograd.grad(formula.square().sum(), [inputs, module.amplitude])
    outputs = module(inputs)
    torch.testing.assert_close(outputs, formula)
    found = torch.autograd.grad(outputs.square().sum(), [inputs, module.amplitude])
    torch.testing.assert_close(found, expected)
    assert IMAGE.start((3, 1, 1))[0].tolist() == (-module.amplitude.view(3, 1, 1)).tolist()


@pytest.mark.parametrize("name", CANDIDATES)
def test_what_was_tried_learns_its_amplitude(name):
    made = layer(name, 3, torch.Generator())
    made(normal(2, 3, 4, 4)).sum().backward()
    assert all(value.grad is not None and value.shape == (3, 1, 1) for value in made.parameters())


def test_images_are_read_from_folders_and_from_an_archive(tmp_path):
    for part, shade in (("train", 40), ("test", 200)):
        for label in ("cat", "dog", "owl"):
            folder = tmp_path / "images" / part / label
            folder.mkdir(parents=True)
            for number in range(2):
                Image.new("RGB", (4, 4), (shade + number, 0, len(label))).save(folder / f"{number}.png")
    with tarfile.open(tmp_path / "images.tar.gz", "w:gz") as archive:
        for part in ("train", "test"):
            archive.add(tmp_path / "images" / part, arcname=part)
    folder, archived = cifar(tmp_path / "images"), cifar(tmp_path / "images.tar.gz")
    for part, (pixels, labels) in folder.items():
        assert pixels.shape == (6, 3, 4, 4)
        assert labels.tolist() == [0, 0, 1, 1, 2, 2]
        assert np.array_equal(pixels, archived[part][0])
    found = chosen(folder, (0, 2), CPU)
    assert sorted(found.training[1].tolist()) == [0, 0, 1, 1]
    assert found.training[0].shape == (4, 3, 4, 4)
    assert float(found.training[0][:, 0].mean()) == pytest.approx(0, abs=1e-5)


def test_tables_stand_between_the_marks_of_the_page(tmp_path):
    page = tmp_path / "page.md"
    other = "<!-- tried -->\nas it was\n<!-- end of what was tried -->\n"
    page.write_text(f"before\n<!-- measured -->\nold\n<!-- end of what was measured -->\nafter\n{other}")
    insert(page, "measured", "new")
    insert(page, "measured", "newer")
    assert page.read_text() == (
        f"before\n<!-- measured -->\n\nnewer\n<!-- end of what was measured -->\nafter\n{other}"
    )


def test_the_page_says_by_how_much_ours_is_ahead_on_images():
    tests = len(moments(STEPS[2]))

    def entry(first_half, end):
        accuracy = [first_half] * (tests // 2) + [end] * (tests - tests // 2)
        return {"rate": 0.01, "accuracy": [accuracy] * 2, "final": [end] * 2}

    title = "CIFAR-10, cat or dog"
    rows = {
        row(OURS, title, "plain", "runs"): entry(0.7, 0.71),
        row("ReLU", title, "plain", "runs"): entry(0.5, 0.7),
        row("SiLU", title, "plain", "runs"): entry(0.5, 0.72),
    }
    text = tables(rows)
    first, later = moments(STEPS[2])[0], moments(STEPS[2])[tests // 2]
    assert f"| {title} | without | {later / first:.1f}× | -1.00 | SiLU |" in text
    assert f"| ReLU | 0.01 | {later} ({later}–{later}) | 0 | 70.00 % (70.0–70.0) |" in text
    assert "Not run yet: GELU, Mish, tanh, leaky ReLU." in text
    assert "Trained" not in text
    rows[row(OURS, title, "plain", "runs")].update(device="cuda", precision="no")
    rows[row("ReLU", title, "plain", "runs")].update(device="cpu", precision="no")
    rows[row("SiLU", title, "plain", "runs")].update(device="cpu", precision="bf16")
    text = tables(rows)
    assert "Trained in bfloat16: SiLU." in text
    assert "Trained on a CPU in single precision: ReLU." in text


def test_the_page_says_which_trials_ran_in_16_bits():
    def trials(name, **more):
        trial = {"rate": 0.01, "scores": [0.5], "ends": [0.6], **more}
        return {row(name, title, kind, "trial"): trial for title in TRIED_ON for kind in KINDS}

    assert "bfloat16" not in tables(trials("GELU"))
    text = tables(trials("GELU") | trials("Mish", precision="bf16"))
    assert "| Mish | 50.0 · 60.0 |" in text
    assert text.count("Trained in bfloat16: Mish.") == 1


def test_the_page_shows_what_was_tried_and_then_trained_in_full():
    (title, kind), (name, *_) = next(iter(LONGER.items()))
    tests = moments(STEPS[10])
    entry = {"rate": 0.01, "accuracy": [[0.5] * (len(tests) - 3) + [0.75] * 3], "final": [0.75]}
    trials = {
        row("GELU", at, norm, "trial"): {"rate": 0.01, "scores": [0.5], "ends": [0.6]}
        for at in TRIED_ON
        for norm in KINDS
    }
    rows = {**trials, row("ReLU", title, kind, "runs"): entry}
    assert "Trained in full" not in tables(rows)
    text = tables({**rows, row(name, title, kind, "runs"): {**entry, "final": [0.8]}})
    assert f"Trained in full, as in the table of {title}, without BatchNorm:" in text
    assert f"| {name} | 0.01 | {tests[-3]} ({tests[-3]}–{tests[-3]}) | 0 | 80.00 % (80.0–80.0) |" in text


def test_what_is_to_be_trained_in_full_was_tried():
    assert all(name in CANDIDATES for names in LONGER.values() for name in names)
    assert all(title in TRIED_ON and kind in KINDS for title, kind in LONGER)


def test_images_are_studied_once_and_not_after_the_deadline(tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    for prefix, count in (("train", 800), ("t10k", 50)):
        for kind, skip, size in (("images-idx3", 16, count * 784), ("labels-idx1", 8, count)):
            data = generator.integers(0, 10, size, dtype=np.uint8).tobytes()
            with gzip.open(tmp_path / f"{prefix}-{kind}-ubyte.gz", "wb") as stream:
                stream.write(bytes(skip) + data)
    monkeypatch.setitem(STEPS, 10, 2)
    monkeypatch.setitem(STEPS, 2, 2)
    results = Results(tmp_path / "results.json")
    monkeypatch.setattr("benchmarks.activation.images.NAMES", ("ReLU",))
    folders = {"fashion": tmp_path, "cifar": None}
    study(results, folders, CPU, math.inf, table=True)
    found = {name: entry for name, entry in results.rows.items() if name.endswith("/runs")}
    assert sorted(found) == sorted(
        row("ReLU", title, kind, "runs")
        for title in ("Fashion-MNIST, 10", "Fashion-MNIST, T-shirt or shirt")
        for kind in ("plain", "BatchNorm")
    )
    assert all(len(entry["final"]) == 10 for entry in found.values())
    before = dict(results.rows)
    study(results, folders, CPU, math.inf, table=True)
    assert results.rows == before
    tried = Results(tmp_path / "tried.json")
    monkeypatch.setattr("benchmarks.activation.images.CANDIDATES", ("ReLU", "tanh"))
    monkeypatch.setattr("benchmarks.activation.images.LONGER", {("Fashion-MNIST, 10", "plain"): ("tanh",)})
    study(tried, folders, CPU, math.inf, table=False)
    full = [name for name in tried.rows if name.endswith("/runs")]
    assert full == [row("tanh", "Fashion-MNIST, 10", "plain", "runs")]
    assert sum(name.endswith("/trial") for name in tried.rows) == 4
    late = Results(tmp_path / "late.json")
    study(late, folders, CPU, 0.0, table=True)
    assert late.rows == {}
