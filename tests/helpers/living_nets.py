"""Networks whose forward pass does more than compute: it sets hooks, keeps maps, or depends on mode and data."""

import contextvars

import torch
import torch.nn.functional as F
from torch import nn

from tests.helpers.tiny_nets import conv

_collected = contextvars.ContextVar("collected", default=None)


class _Two(nn.Module):
    """conv → conv → head, and an auxiliary conv → head that may read the first."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = conv(3, 8), conv(8, 6), nn.Linear(6, 5)
        self.aux_conv, self.aux_head = conv(8, 4), nn.Linear(4, 5)

    def main(self, x):
        return self.head(F.relu(self.second(x)).mean((2, 3)))

    def aux(self, x):
        return self.aux_head(F.relu(self.aux_conv(x)).mean((2, 3)))


# --- hooks of its own


class HookedByClosure(_Two):
    """Sets a hook when it first runs; the hook writes to the network through a closure."""

    def __init__(self):
        super().__init__()
        del self.aux_conv, self.aux_head
        self.taken, self.ready = {}, False

    def keep(self):
        def take(_module, _inputs, output):
            self.taken["first"] = output

        return take

    def forward(self, x):
        if not self.ready:
            self.first.register_forward_hook(self.keep())
            self.ready = True
        self.first(x)
        return self.main(F.relu(self.taken["first"]))


class HookedByMethod(HookedByClosure):
    """The same with a bound method."""

    def take(self, _module, _inputs, output):
        self.taken["first"] = output

    def keep(self):
        return self.take


class HookedByDefault(HookedByClosure):
    """The same with a default argument."""

    def keep(self):
        def take(_module, _inputs, output, taken=self.taken):
            taken["first"] = output

        return take


class HookedByContext(HookedByClosure):
    """As some libraries collect hidden states: a hook writes to whatever is collecting, if anything is."""

    def keep(self):
        def take(_module, _inputs, output):
            _collected.get()["first"] = output

        return take

    def forward(self, x):
        if not self.ready:
            self.first.register_forward_hook(self.keep())
            self.ready = True
        token = _collected.set({})
        try:
            self.first(x)
            return self.main(F.relu(_collected.get()["first"]))
        finally:
            _collected.reset(token)


class ForwardOnInstance(_Two):
    """Its forward is a closure that was set on the instance."""

    def __init__(self):
        super().__init__()
        del self.aux_conv, self.aux_head
        self.forward = lambda x: self.main(F.relu(self.first(x)))


HOOKED = (HookedByClosure, HookedByMethod, HookedByDefault, HookedByContext, ForwardOnInstance)


# --- layers that are read at times


class TrainedAuxiliary(_Two):
    """An auxiliary output in training."""

    def forward(self, x):
        x = F.relu(self.first(x))
        out = self.main(F.dropout(x, 0.5, self.training))
        return (out, self.aux(x)) if self.training else out


class TrainedLoss(_Two):
    """An auxiliary loss in training, which is kept and not returned."""

    def forward(self, x):
        x = F.relu(self.first(x))
        if self.training:
            self.loss = self.aux(x).square().mean()
        return self.main(x)


class EvaluatedOnly(_Two):
    """Another layer is read where it does not train."""

    def forward(self, x):
        x = F.relu(self.first(x))
        return self.main(x) if self.training else self.main(x) + self.aux(x)


class EitherOr(_Two):
    """Layers of its own for each mode."""

    def forward(self, x):
        x = F.relu(self.first(x))
        return self.main(x) if self.training else self.aux(x)


class Dropped(_Two):
    """Computes in eval mode what only training returns."""

    def forward(self, x):
        x = F.relu(self.first(x))
        out, aux = self.main(x), self.aux(x)
        return (out, aux) if self.training else out


class DroppedAlways(_Two):
    """Computes what it never returns."""

    def forward(self, x):
        x = F.relu(self.first(x))
        self.aux(x)
        return self.main(x)


class OnBrightImages(_Two):
    """Its auxiliary layers are called on bright images."""

    def forward(self, x):
        bright = bool(x.mean() > 1)
        x = F.relu(self.first(x))
        return self.main(x) + self.aux(x) if bright else self.main(x)


class OnSeveralImages(_Two):
    """Its auxiliary layers are called on more than one image at once."""

    def forward(self, x):
        several = len(x) > 1
        x = F.relu(self.first(x))
        return self.main(x) + self.aux(x) if several else self.main(x)


class SharedHead(nn.Module):
    """In training its head reads another layer, too."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = conv(3, 8), conv(8, 8), nn.Linear(8, 5)

    def forward(self, x):
        x = F.relu(self.first(x))
        out = self.head(F.relu(self.second(x)).mean((2, 3)))
        return (out, self.head(x.mean((2, 3)))) if self.training else out


READ_AT_TIMES = (
    TrainedAuxiliary,
    TrainedLoss,
    EvaluatedOnly,
    EitherOr,
    Dropped,
    DroppedAlways,
    OnBrightImages,
    OnSeveralImages,
)


class OnOneImage(_Two):
    """Its auxiliary layers are called on an image that nobody would think of."""

    def forward(self, x):
        odd = bool(x[0, 0, 0, 0] == 7)
        x = F.relu(self.first(x))
        return self.main(x) + self.aux(x) if odd else self.main(x)


class Uncalled(_Two):
    """Its auxiliary layers are never called."""

    def forward(self, x):
        return self.main(F.relu(self.first(x)))


class TrainedWeights(_Two):
    """Reads channels in training by a weight that belongs to no layer."""

    def __init__(self):
        super().__init__()
        del self.aux_conv, self.aux_head
        self.weight = nn.Parameter(torch.ones(5, 8))

    def forward(self, x):
        x = F.relu(self.first(x))
        return (self.main(x), F.linear(x.mean((2, 3)), self.weight)) if self.training else self.main(x)
