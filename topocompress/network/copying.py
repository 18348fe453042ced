"""Copies of a network whose hooks and own functions belong to the copy, and not to the network it was made from."""

from __future__ import annotations

import copy
import types
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from torch import Tensor, nn

from topocompress.errors import ModelError
from topocompress.network.inference import first_line

Network = TypeVar("Network", bound=nn.Module)

_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)


def copied(model: Network) -> Network:
    """A deep copy that shares nothing with the network.

    ``copy.deepcopy`` leaves functions as they are. So a hook, or a ``forward`` set on an instance, that is a nested
    function and reaches its network through its closure goes on to write into the original. Here it is made anew, for
    the copy. What a forward pass has left on a module, such as the maps of its last run, is copied without the
    gradients' history, which cannot be copied.

    Raises:
        ModelError: The network holds something that cannot be copied.
    """
    memo: dict[int, Any] = {}
    for module in model.modules():
        for value in _kept(module):
            memo.setdefault(id(value), value.detach().clone())
    try:
        twin = copy.deepcopy(model, memo)
    except (TypeError, RuntimeError, NotImplementedError, ValueError, AttributeError) as error:
        raise ModelError(
            f"{type(model).__name__} cannot be copied: {type(error).__name__}: {first_line(error)}",
            hint="Delete what holds files, locks or generators from it; weights and modules can be copied.",
        ) from error
    for module in twin.modules():
        for name, value in list(vars(module).items()):
            if isinstance(value, types.FunctionType):
                object.__setattr__(module, name, _rebound(value, memo))
        for kind in _HOOKS:
            hooks = vars(module).get(kind, {})
            for key, hook in hooks.items():
                hooks[key] = _rebound(hook, memo)
    return twin


def _kept(module: nn.Module) -> Iterator[Tensor]:
    """Tensors with a history on a module itself, within its dicts, tuples and lists."""
    waiting: list[Any] = [value for name, value in vars(module).items() if name not in ("_parameters", "_modules")]
    seen: set[int] = set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
            if value.grad_fn is not None:
                yield value
        elif isinstance(value, Mapping | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            waiting += value.values() if isinstance(value, Mapping) else value


def _rebound(hook: Any, memo: dict[int, Any]) -> Any:
    """A nested function whose closure and defaults hold copies of what was copied; anything else itself."""
    if not isinstance(hook, types.FunctionType) or id(hook) in memo:
        return memo.get(id(hook), hook)
    cells = hook.__closure__ or ()
    held = [*(cell.cell_contents for cell in cells if _filled(cell)), *(hook.__defaults__ or ())]
    if not any(_other(value, memo) is not value for value in held):
        return hook
    twin = memo[id(hook)] = types.FunctionType(
        hook.__code__,
        hook.__globals__,
        hook.__name__,
        tuple(_other(value, memo) for value in hook.__defaults__) if hook.__defaults__ else None,
        tuple(types.CellType(_other(cell.cell_contents, memo)) if _filled(cell) else cell for cell in cells),
    )
    twin.__dict__.update(hook.__dict__)
    twin.__kwdefaults__ = hook.__kwdefaults__
    return twin


def _filled(cell: types.CellType) -> bool:
    return cell != types.CellType()  # an empty one


def _other(value: Any, memo: dict[int, Any]) -> Any:
    """What took a value's place in the copy."""
    if isinstance(value, types.FunctionType):
        return _rebound(value, memo)
    if isinstance(value, types.MethodType):
        owner = memo.get(id(value.__self__))
        return value if owner is None else types.MethodType(value.__func__, owner)
    return memo.get(id(value), value)
