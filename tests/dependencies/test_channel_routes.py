import torch
from torch import Tensor, nn

from topocompress.dependencies.channel_routes import Disjoint, routes
from topocompress.dependencies.groups import find_groups
from topocompress.dependencies.tracing import trace
from topocompress.network.modes import Run
from topocompress.surgery.removal import apply
from topocompress.surgery.trial import found_on_trial, prunable_groups
from topocompress.types import GroupPlan, PruningPlan


class Halves(nn.Module):
    """One half of a layer's channels multiplies the other."""

    def __init__(self) -> None:
        super().__init__()
        self.both = nn.Conv2d(3, 6, 1)
        self.head = nn.Conv2d(3, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        first, second = self.both(images).chunk(2, dim=1)
        return self.head(first * second)


class Ghost(nn.Module):
    """Half of the channels are computed from the other half; all are added to what came in."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.primary = nn.Conv2d(8, 4, 1)
        self.norm = nn.BatchNorm2d(4)
        self.cheap = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        stem = self.stem(images)
        primary = self.norm(self.primary(stem))
        return self.head(stem + torch.cat([primary, self.cheap(primary)], dim=1))


class Circle(nn.Module):
    """Sums of halves are put side by side and added to the whole: each channel comes back to itself and another."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        stem = self.stem(images)
        for _ in range(3):
            first, second = stem.chunk(2, dim=1)
            stem = stem + torch.cat([first, first + second], dim=1)
        return self.head(stem)


class Slices(nn.Module):
    """Dual paths (Chen et al., arXiv:1707.01629): some channels are added, the others put side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 12, 1)
        self.second = nn.Conv2d(12, 12, 1)
        self.third = nn.Conv2d(16, 12, 1)
        self.head = nn.Conv2d(20, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.first(images)
        added, beside = maps[:, :8], maps[:, 8:]
        for layer in (self.second, self.third):
            maps = layer(torch.cat([added, beside], dim=1))
            added, beside = added + maps[:, :8], torch.cat([beside, maps[:, 8:]], dim=1)
        return self.head(torch.cat([added, beside], dim=1))


def example() -> Tensor:
    return torch.randn(1, 3, 6, 6, generator=torch.Generator().manual_seed(0))


def seeded(kind: type[nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind().eval()


def groups_of(kind: type[nn.Module]):
    return {group.root: group for group in find_groups(seeded(kind), example())}


def pairs(count: int):
    return tuple((channel, channel + count) for channel in range(count))


def test_sets_are_joined_through_others():
    joined = Disjoint(6)
    joined.join(4, 1)
    joined.join(1, 5)
    joined.join(3, 3)
    assert joined.sets() == ((0,), (1, 4, 5), (2,), (3,))


def test_halves_that_are_multiplied_go_together():
    model = seeded(Halves)
    joined = Disjoint(6)
    found = routes(trace(model, [Run(example())]), model.both, joined)
    assert joined.sets() == pairs(3)
    first = found[0]
    assert (first.module, first.out, first.final, first.sources) == (
        model.both,
        True,
        False,
        {channel: channel for channel in range(6)},
    )
    (head,) = [each for each in found if each.module is model.head]
    assert (head.out, sorted(head.sources)) == (False, [0, 1, 2])


def test_a_layer_that_nothing_reads_is_final():
    model = seeded(Halves)
    found = routes(trace(model, [Run(example())]), model.head, Disjoint(2))
    assert [(each.module, each.final) for each in found if each.module is model.head] == [(model.head, True)]


def test_a_channel_and_what_is_computed_from_its_twin_go_together():
    groups = groups_of(Ghost)
    assert list(groups) == ["stem", "head"]
    stem = groups["stem"]
    assert (stem.protected, stem.units) == ("", pairs(4))
    alone = tuple((channel,) for channel in range(4))
    assert stem.filters == {"stem": pairs(4), "primary": alone, "cheap": alone}
    assert stem.readers == {"primary": (2,) * 4, "head": (2,) * 4}


def test_the_walk_ends_where_channels_go_in_circles():
    stem = groups_of(Circle)["stem"]
    assert (stem.protected, stem.units) == ("", pairs(4))


def test_what_is_joined_can_be_removed():
    for kind, root in ((Halves, "both"), (Ghost, "stem"), (Circle, "stem")):
        model = seeded(kind)
        group = groups_of(kind)[root]
        gone = tuple(sorted(group.units[1] + group.units[2]))
        plan = PruningPlan(
            model="",
            rule={},
            criterion="none",
            groups=(GroupPlan(root=root, width=group.width, remove=gone),),
            macs_before=0,
            macs_after=0,
        )
        smaller = apply(model, plan, example=example(), any_weights=True)  # which compares the outputs
        assert smaller.get_submodule(root).out_channels == group.width - 4


def test_layers_that_are_cut_at_places_written_in_the_code_stay_whole():
    found = {group.root: group.protected for group in prunable_groups(seeded(Slices), example())}
    assert found_on_trial(found["first"])
