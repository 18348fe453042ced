"""The contract of a criterion, for the tests of plugins: ``check_criterion(MyCriterion())``.

Every built-in criterion passes it. Nothing here needs a test framework: a broken promise raises
:class:`~topocompress.errors.CriterionError` that says which one.
"""

from __future__ import annotations

import json
import pickle
import random
import re
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from topocompress.criteria.base import (
    KINDS,
    CloudCriterion,
    Criterion,
    GradientCriterion,
    MapCriterion,
    NormCriterion,
    WeightCriterion,
)
from topocompress.errors import CriterionError
from topocompress.network.capture import Batches
from topocompress.runtime.resources import Resources
from topocompress.scoring.dispatch import score_layers
from topocompress.types import Scores

_KINDS = ", ".join(kind.__name__ for kind in KINDS)
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_LAYERS = ("first.0", "second")
_FILTERS = 6
_DEAD = 2
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def check_criterion(criterion: Criterion, *, equivariant: bool = True, samples: int = 24, seed: int = 0) -> None:
    """Check what topocompress relies on, on a small network with a dead filter.

    - ``name``, ``higher``, the docstring and ``settings()`` are what the command line and ``scores.json`` need;
    - one finite score per filter, the same at every call and for any memory budget;
    - filters that change places take their scores along;
    - weights, gradients, buffers, training flags, hooks, maps, clouds and every random state stay as they were;
    - a criterion of maps scores samples alone as it does among others;
    - a criterion of clouds can be pickled, and scores filters alone as it does among others;
    - a criterion of gradients changes neither the outputs nor the effects it is given.

    Args:
        criterion: The criterion to check, with the settings to check it with.
        equivariant: Whether a filter's score may not depend on its place. ``False`` is for random controls alone.
        samples: Number of calibration samples.
        seed: Seed of the network and the samples.

    Raises:
        CriterionError: A promise is broken; the message names the criterion and the promise.
    """
    _check_identity(criterion)
    settings = json.dumps(criterion.settings(), sort_keys=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _Network()
        images, labels = torch.randn(samples, 2, 6, 6), torch.randint(0, 3, (samples,))
        batches = [(images[start : start + 10], labels[start : start + 10]) for start in range(0, samples, 10)]
        weight, clouds = torch.randn(_FILTERS, 2, 3, 3), torch.randn(_FILTERS, samples, 4).relu()
    model.first[1].eval()  # a mixture of flags, to be found again
    scores = _score(criterion, model, batches)  # also imports what the criterion imports on first use
    again = _unchanged(criterion, model, lambda: _score(criterion, model, batches))
    _require(criterion, _same(scores, again, exact=True), "scores differ from call to call")
    _check_direct(criterion, weight, clouds)
    if isinstance(criterion, CloudCriterion):
        pieces = _score(criterion, model, batches, memory=1)
        _require(criterion, _same(scores, pieces, exact=False), "scores depend on how a layer's filters are split")
    if equivariant:
        order = torch.tensor([3, 0, 5, 1, 4, 2])
        moved = _score(criterion, model.reordered(order), batches)
        same = all(
            _close(moved.layers[name].values, scores.layers[name].values[places])
            for name, places in zip(_LAYERS, (order.numpy(), np.arange(4)), strict=True)
        )
        _require(criterion, same, "scores do not move with their filters when the filters change places")
    _require(criterion, json.dumps(criterion.settings(), sort_keys=True) == settings, "settings() changed by scoring")


class _Network(nn.Module):
    """Two convolutions and a classifier; filter 2 of the first is dead."""

    def __init__(self) -> None:
        super().__init__()
        convolution, norm = nn.Conv2d(2, _FILTERS, 3), nn.BatchNorm2d(_FILTERS)
        self.first = nn.Sequential(convolution, norm, nn.ReLU())
        self.second, self.norm = nn.Conv2d(_FILTERS, 4, 3), nn.BatchNorm2d(4)
        self.classify = nn.Linear(4, 3)
        with torch.no_grad():
            convolution.weight[_DEAD] = 0
            norm.weight.uniform_(0.5, 2)
            norm.bias.normal_()
            self.norm.weight.uniform_(0.5, 2)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classify(torch.relu(self.norm(self.second(self.first(images)))).mean(dim=(2, 3)))
        return logits

    def reordered(self, order: Tensor) -> _Network:
        """The same function, with the filters of the first layer in another order."""
        other = _Network()
        state = {name: value.clone() for name, value in self.state_dict().items()}
        for name, value in state.items():
            if name.startswith("first.") and value.ndim:
                state[name] = value[order]
        state["second.weight"] = state["second.weight"][:, order]
        other.load_state_dict(state)
        return other


def _check_identity(criterion: Criterion) -> None:
    cls = type(criterion)
    if not isinstance(criterion, Criterion):
        raise CriterionError(f"{criterion!r} is not a criterion", hint=f"Subclass one of {_KINDS}.")
    name = getattr(criterion, "name", None)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise CriterionError(f"{cls.__name__}: name must be lower case with hyphens, got {name!r}")
    higher = getattr(criterion, "higher", None)
    _require(criterion, higher in ("keep", "remove"), f"higher must be 'keep' or 'remove', got {higher!r}")
    summary = (vars(cls).get("__doc__") or "").strip().partition("\n")[0]
    _require(criterion, bool(summary), "the class has no docstring; 'topocompress criteria' prints its first line")
    try:
        json.dumps(criterion.settings())
    except (TypeError, ValueError) as error:
        raise CriterionError(f"criterion {name!r}: settings() cannot be written as JSON: {error}") from error


def _check_direct(criterion: Criterion, weight: Tensor, clouds: Tensor) -> None:
    """Call ``score`` itself, without what :mod:`topocompress.scoring.dispatch` does to protect its inputs."""
    before = weight.clone(), clouds.clone()
    if isinstance(criterion, WeightCriterion):
        criterion.score(weight)
    elif isinstance(criterion, NormCriterion):
        criterion.score(weight[:, 0, 0, 0])
    elif isinstance(criterion, MapCriterion):
        _check_maps(criterion, clouds)
    elif isinstance(criterion, GradientCriterion):
        outputs, labels = clouds[0].clone(), torch.arange(clouds.shape[1]) % clouds.shape[2]
        criterion.directions(clouds[0], labels)
        effects = clouds[1].double()
        criterion.score(effects)
        same = torch.equal(clouds[0], outputs) and torch.equal(effects, clouds[1].double())
        _require(criterion, same, "directions() or score() changed what it was given")
    elif isinstance(criterion, CloudCriterion):
        try:
            sent = pickle.loads(pickle.dumps(criterion))  # noqa: S301 - what was pickled one line before
        except Exception as error:
            promise = "it cannot be sent to another process"
            raise CriterionError(f"criterion {criterion.name!r}: {promise}: {error}") from error
        points = clouds.numpy()
        together = np.asarray(sent.score(points, layer_spread=1.0), dtype=np.float64)
        alone = np.concatenate([np.asarray(criterion.score(cloud[None], layer_spread=1.0)) for cloud in points])
        _require(criterion, np.array_equal(together, alone), "a filter's score depends on the filters beside it")
    same = torch.equal(weight, before[0]) and torch.equal(clouds, before[1])
    _require(criterion, same, "score() changed the weights or clouds it was given")


def _check_maps(criterion: MapCriterion, clouds: Tensor) -> None:
    maps = clouds.transpose(0, 1).reshape(clouds.shape[1], _FILTERS, 2, 2)
    together = criterion.score(maps)
    alone = torch.cat([criterion.score(sample[None]) for sample in maps])
    same = together.shape == alone.shape and _close(together.numpy(), alone.numpy())
    _require(criterion, same, "a sample's score depends on the samples beside it")


def _score(criterion: Criterion, model: nn.Module, batches: Batches, *, memory: int | None = None) -> Scores:
    try:
        scores = score_layers(model, _LAYERS, criterion, batches, resources=Resources(memory=memory, workers=1))
    except CriterionError:
        raise
    except Exception as error:
        raise CriterionError(f"criterion {criterion.name!r}: score() raised {type(error).__name__}: {error}") from error
    missing = [name for name in _LAYERS if name not in scores.layers]
    _require(criterion, not missing, f"no scores for {missing}")
    return scores


def _unchanged(criterion: Criterion, model: nn.Module, call: Callable[[], Scores]) -> Scores:
    """Run ``call`` and require that it leaves no trace on the model or on a random state."""

    def hooks() -> list[int]:
        return [len(getattr(module, kind)) for module in model.modules() for kind in _HOOKS]

    def modes() -> list[bool]:
        return [module.training for module in model.modules()]

    def random_states() -> tuple[bytes, ...]:
        shared = pickle.dumps(np.random.get_state())  # noqa: NPY002 - the global state is what must not change
        return torch.get_rng_state().numpy().tobytes(), shared, pickle.dumps(random.getstate())

    tensors = {name: value.clone() for name, value in model.state_dict().items()}
    before = hooks(), modes(), random_states()
    scores = call()
    state = model.state_dict()
    _require(criterion, all(torch.equal(state[name], value) for name, value in tensors.items()), "weights changed")
    _require(criterion, all(p.grad is None for p in model.parameters()), "gradients were left behind")
    for what, old, new in zip(
        ("hooks", "training flags", "a global random state"), before, (hooks(), modes(), random_states()), strict=True
    ):
        _require(criterion, old == new, f"{what} changed by scoring")
    return scores


def _same(one: Scores, other: Scores, *, exact: bool) -> bool:
    equal = np.array_equal if exact else _close
    return all(equal(layer.values, other.layers[name].values) for name, layer in one.layers.items())


def _close(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    return bool(np.allclose(one, other, rtol=1e-4, atol=1e-6 * np.abs(one).max()))


def _require(criterion: Criterion, kept: bool, promise: str) -> None:
    if not kept:
        raise CriterionError(f"criterion {criterion.name!r}: {promise}")
