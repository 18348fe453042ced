"""Networks that cannot be followed as a whole give up what lies inside the parts that can."""

import threading

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.shufflenetv2 import channel_shuffle

from tests.helpers.tiny_nets import Chain, example, seeded
from topocompress.dependencies import groups as groups_module
from topocompress.dependencies import tracing
from topocompress.dependencies.calls import explore
from topocompress.dependencies.groups import find_groups
from topocompress.dependencies.tracing import Part, _in_time, _TooLong, follow, trace_parts
from topocompress.errors import ModelError
from topocompress.surgery.removal import apply
from topocompress.surgery.trial import found_on_trial, prunable_groups
from topocompress.types import GroupPlan, PruningPlan


def block(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, channels, 1), nn.ReLU()
    )


class Shuffled(nn.Module):
    """Half of the channels go through a block, then both halves are shuffled and cut off from what follows."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.branch = block(4)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        kept, changed = self.stem(x).chunk(2, dim=1)
        x = channel_shuffle(torch.cat((kept, self.branch(changed)), dim=1), 2)
        return self.head(x.detach().mean((2, 3)))  # nobody can follow gradients past this


class DataDependent(nn.Module):
    """Its blocks are called by what is in the data, with more than one tensor, or from two sides."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.plain = block(4)
        self.paired = Paired()
        self.shared = block(4)
        self.unused = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.plain(self.stem(x))
        x = self.paired(x, x) + self.shared(x) + self.shared[3](self.shared[0](x))
        kept = x.flatten(1).norm(dim=1).argsort().tolist()
        return torch.stack([x[index] for index in kept]).detach().requires_grad_().mean((2, 3))


class Paired(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = block(4)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.inner(x + y)


def names_of(model: nn.Module, **options) -> list[str]:
    return follow(model, explore(model, example()), lambda part: [part.name], **options)


def test_a_network_that_can_be_followed_is_one_part():
    assert names_of(seeded(Chain)) == [""]


def test_where_the_whole_is_refused_the_largest_parts_are_taken():
    def refuse(part: Part) -> list[str]:
        if not part.name:
            raise ZeroDivisionError
        return [part.name]

    model = seeded(Shuffled)
    assert follow(model, explore(model, example()), refuse) == ["stem", "branch", "head"]
    assert names_of(seeded(Shuffled), whole=lambda module: len(list(module.children())) < 2) == [
        "stem",
        *(f"branch.{index}" for index in (0, 3)),
        "head",
    ]


def test_a_part_sees_one_tensor_and_nobody_else_reaches_inside():
    whole = (DataDependent, Paired)
    found = names_of(seeded(DataDependent), whole=lambda module: type(module) not in whole)

    assert found == ["stem", "plain", "paired.inner", "shared.0", "shared.3"]


def test_channels_inside_a_part_go_and_those_that_leave_it_stay(monkeypatch):
    model = seeded(Shuffled)
    monkeypatch.setattr(groups_module, "_without_attention", lambda module: not isinstance(module, Shuffled))
    groups = {group.root: group for group in find_groups(model, example())}

    assert groups["branch.0"].protected == ""
    assert groups["branch.0"].part == "branch"
    assert groups["branch.0"].readers == {"branch.3": (1,) * 6}
    assert groups["branch.3"].protected == "leaves the part of the network that could be followed"
    plan = PruningPlan(
        model="",
        rule={},
        criterion="by hand",
        groups=(GroupPlan(root="branch.0", part="branch", width=6, remove=(0, 4)),),
        macs_before=0,
        macs_after=0,
    )
    smaller = apply(model, plan, example=example(), any_weights=True)
    assert (smaller.branch[0].out_channels, smaller.branch[3].in_channels) == (4, 4)
    with torch.no_grad():
        model.branch[3].weight[:, [0, 4]] = 0
        torch.testing.assert_close(smaller(example()), model(example()))


def test_what_nobody_can_follow_further_keeps_its_width_and_the_rest_of_the_network_is_free():
    groups = {group.root: group for group in prunable_groups(seeded(Shuffled), example())}
    assert {root: group.part for root, group in groups.items()} == dict.fromkeys(groups, "")
    assert groups["branch.0"].protected == ""
    assert groups["branch.3"].protected == "nothing that could be followed reads it"
    assert found_on_trial(groups["stem"].protected)  # half of it is read where nobody can see it


def test_nothing_is_followed_for_longer_than_it_may_take(monkeypatch):
    given = []

    def patient(work, seconds: float):
        given.append(seconds)
        return _in_time(work, seconds if len(given) == 1 else 600.0)  # a part may be slow on a busy machine

    def endless(part: Part) -> list[str]:
        while not part.name:
            pass
        return [part.name]

    monkeypatch.setattr(tracing, "_in_time", patient)
    model = seeded(Chain)
    found = follow(model, explore(model, example()), endless, seconds=0.2)
    assert set(given) == {0.2}
    assert found == [
        name for name, module in seeded(Chain).named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))
    ]


def count_to(most: int) -> int:
    for _ in range(most):
        pass
    return most


def test_work_in_time_gives_its_result_or_its_error():
    assert _in_time(lambda: count_to(10), 60.0) == 10
    with pytest.raises(ZeroDivisionError):
        _in_time(lambda: 1 // 0, 60.0)


def test_work_that_takes_too_long_is_interrupted_though_it_swallows_that_once(monkeypatch):
    swallowed, begun, started = [], threading.Event(), []

    class Begun(threading.Thread):
        def start(self) -> None:
            started.append(self)
            super().start()

        def join(self, timeout: float | None = None) -> None:
            begun.wait()  # time runs out in the middle of the work, however busy the machine is
            super().join(timeout)

    monkeypatch.setattr(tracing.threading, "Thread", Begun)

    def stubborn() -> int:
        try:
            begun.set()
            return count_to(10**9)
        except:  # noqa: E722 - as bare as that in a library
            swallowed.append(True)
        return count_to(10**9)

    with pytest.raises(_TooLong):
        _in_time(stubborn, 0.01)
    assert swallowed == [True]
    assert [thread.is_alive() for thread in started] == [False]


def test_a_network_that_does_not_run_is_refused_and_keeps_no_hooks():
    model = seeded(Shuffled)
    with pytest.raises(ModelError, match=r"does not accept inputs of shape \(1, 4, 8, 8\)"):
        follow(model, explore(model, torch.zeros(1, 4, 8, 8)), lambda part: [part.name])

    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_parts_are_found_again_by_name():
    model = seeded(Shuffled)
    parts = trace_parts(model, ["branch", "branch", "head"], explore(model, example()))

    assert list(parts) == ["branch", "head"]
    assert parts["branch"].own_name("branch.3") == "3"
    with pytest.raises(ModelError, match="shared: the network does not call it with one tensor"):
        trace_parts(seeded(DataDependent), ["shared"], explore(seeded(DataDependent), example()))


def test_a_network_may_keep_what_it_computes_in_eval_mode():
    levit = pytest.importorskip("timm.models.levit")
    small = {"img_size": 64, "embed_dim": (16, 24), "key_dim": 8, "num_heads": (2, 3), "depth": (1, 1)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = levit.Levit(**small, num_classes=4).eval()  # keeps position biases
        groups = prunable_groups(model, torch.randn(1, 3, 64, 64))
    assert next(each.root for each in groups if not each.protected).startswith("stem.")
