"""What a model may be: wrapped, lazy, with a length, with buffers of its own doing, partly without gradients."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.swa_utils import AveragedModel

from tests.helpers.output_kinds import Kind, images, made, unlabelled
from topocompress import compress
from topocompress.errors import ModelError
from topocompress.models.loading import load_model

pytestmark = pytest.mark.usefixtures("unexported")


def own(kind):
    return made(lambda: kind(lambda x: x, 5))


class Empty(Kind):
    """A module whose truth is that of an empty list."""

    def __len__(self) -> int:
        return 0


class Stores(Kind):
    """Keeps its last maps, with all that led to them."""

    def forward(self, x):
        found = super().forward(x)
        self.seen = {"last": [found * 2]}
        return found


class Frozen(Kind):
    """Runs its first layers without gradients."""

    def forward(self, x):
        with torch.no_grad():
            maps = F.relu(self.second(F.relu(self.first(x))))
        return self.heads[0](maps.mean((2, 3)))


class Inference(Kind):
    """Runs where nothing can be followed."""

    @torch.inference_mode()
    def forward(self, x):
        return super().forward(x)


class Counts(Kind):
    """Writes into its buffers in evaluation mode: in place, and by another tensor."""

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(16))

    def forward(self, x):
        self.calls += 1
        self.mean = 0.9 * self.mean + 0.1 * x.mean()
        return super().forward(x)


class Lazy(Kind):
    """Its second layer does not know yet what it reads."""

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.second = nn.LazyConv2d(16, 3, padding=1)


def lazy():
    """A factory."""
    return Lazy(lambda x: x, 5)


def wrapped():
    """A factory."""
    return nn.DataParallel(own(Kind))


def stored():
    model = own(Stores)
    model(images(2))
    return model


MODELS = {
    "length": lambda: own(Empty),
    "stored map": stored,
    "no_grad": lambda: own(Frozen),
    "buffers": lambda: own(Counts),
    "compiled": lambda: torch.compile(own(Kind), backend="eager"),
    "parallel": wrapped,
    "averaged": lambda: AveragedModel(own(Kind)),
}


@pytest.mark.parametrize("criterion", ["l1", "persistence"])
@pytest.mark.parametrize("kind", MODELS)
def test_it_is_pruned_and_left_as_it_was(kind, criterion):
    model = MODELS[kind]()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    result = compress(model, unlabelled(), ratio=0.5, criterion=criterion, reconstruct=False)
    assert result.report.after.macs < 0.35 * result.report.before.macs
    after = model.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in after.items())
    assert not isinstance(result.model, (nn.DataParallel, AveragedModel))
    assert not hasattr(result.model, "_orig_mod")


def test_what_was_taken_out_of_a_wrapper_is_said():
    report = compress(wrapped(), unlabelled(), ratio=0.5, criterion="l1", reconstruct=False).report
    assert "taken out of its DataParallel: Kind" in report.model["note"]


def test_lazy_layers_run_once_first():
    assert compress(lazy(), unlabelled(), ratio=0.5, criterion="l1", dry_run=True).plan.removed
    loaded = load_model("tests.workflows.test_kinds_of_modules:lazy")
    assert loaded.module.second.weight.shape == (16, 16, 3, 3)


def test_inference_mode_is_refused_before_the_work():
    with pytest.raises(ModelError, match="where nothing can be followed"):
        compress(own(Inference), unlabelled(), ratio=0.5, criterion="l1")


@pytest.mark.parametrize("half", [False, True])
def test_a_module_inside_a_dict_is_taken_where_pickles_are_trusted(half, tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 8, 3))
    content = {"epoch": 3, "ema": None, "model": model.half() if half else model, "optimizer": None}
    torch.save(content, tmp_path / "best.pt")
    loaded = load_model(tmp_path / "best.pt", trust_pickle=True, input_size=16)
    assert isinstance(loaded.module, nn.Sequential)
    assert loaded.module[0].weight.dtype == torch.float32
    with pytest.raises(ModelError, match="trust_pickle=True"):
        load_model(tmp_path / "best.pt", input_size=16)
