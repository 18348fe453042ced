"""Maps that nobody reads: the network's own output, and branches that lead nowhere."""

import torch
from torch import Tensor, nn

from topocompress.capture import collect_clouds, map_shapes, plan_passes

IMAGES = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))


class DeadEnd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.unread = nn.Conv2d(3, 2, 1)
        self.last = nn.Conv2d(3, 4, 3)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        self.unread(images)
        return {"out": torch.relu(self.last(images))}


def test_output_and_dead_end_are_captured_in_running_order():
    torch.manual_seed(0)
    model = DeadEnd().eval()
    shapes = map_shapes(model, ["last", "unread"], IMAGES)
    assert shapes == {"unread": (2, 36), "last": (4, 16)}
    assert list(shapes) == ["unread", "last"]
    (slices,) = plan_passes(shapes, 4, 1 << 20)
    clouds = collect_clouds(model, slices, [(IMAGES, torch.zeros(4))], 4, on_batch=lambda count: None)
    with torch.no_grad():
        expected = torch.relu(model.last(IMAGES)).flatten(2).transpose(0, 1)
    torch.testing.assert_close(clouds[1], expected)


def test_bare_output():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    assert map_shapes(model, ["0"], IMAGES) == {"0": (4, 16)}
