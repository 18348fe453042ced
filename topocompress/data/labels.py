"""Which output of a network a label means: class names of the data held against those of the outputs."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from topocompress.data.checks import BY_NUMBER, BY_ORDER
from topocompress.errors import DataError

"""What may be said of the outputs in place of their names: they are in the order of the data's classes; a class's name
is the number of its output."""

OTHERWISE = (
    "Name the outputs with --classes FILE, one class a line in their order; or add --unlabelled, which measures "
    "likeness to the original instead of accuracy."
)
_SYNSET = re.compile(r"n\d{8}")
_NAMED = 5


def plain(name: str) -> str:
    """A class name without what differs between folders and lists of names: case, spaces, hyphens and underscores, and
    how a letter is put together (macOS takes ``é`` for two characters).
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return " ".join(re.sub(r"[\s_-]+", " ", folded).split())


def by_name(own: Sequence[str], used: NDArray[np.bool_], names: Sequence[str], where: str) -> NDArray[np.int64]:
    """Number of the output for each class of the data.

    Args:
        own: Class names of the data by label; at least one.
        used: (classes,) whether any sample has that label. What no sample has, need not be a class.
        names: Names of the outputs in their order.
        where: The data, for messages.

    Returns:
        (classes,), -1 where no sample is and no output.

    Raises:
        DataError: A class has no output of its name, or several.
    """
    outputs: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        outputs.setdefault(plain(name), []).append(number)
    exact = {name: number for number, name in enumerate(names) if list(names).count(name) == 1} if own else {}
    found = [[exact[name]] if name in exact else outputs.get(plain(name), []) for name in own]
    if not any(found) and len(own) == len(names) and all(_SYNSET.fullmatch(name) for name in own):
        return np.arange(len(own))  # all of ImageNet: its classes are numbered in the order of these names
    unknown = [name for name, numbers, there in zip(own, found, used, strict=True) if there and not numbers]
    if unknown:
        hint = f"Rename what is meant, or remove it. {OTHERWISE}"
        if not any(found) and len(own) == len(names):
            hint = f"If both are in the same order, add --classes {BY_ORDER}. {OTHERWISE}"
        if all(_SYNSET.fullmatch(name) for name in own):
            hint = f"For ImageNet's own names of classes (n01440764, ...) add --classes imagenet. {OTHERWISE}"
        raise DataError(
            f"{where} has classes that the network's {len(names)} outputs are not named after: {_listed(unknown)}; the "
            f"outputs are {_listed(names)}",
            hint=hint,
        )
    double = [name for name, numbers in zip(own, found, strict=True) if len(numbers) > 1]
    if double:
        raise DataError(f"{where}: several outputs are named {double[0]!r}", hint=OTHERWISE)
    taken: dict[int, str] = {}
    for name, numbers in zip(own, found, strict=True):
        for number in numbers:
            if number in taken:
                raise DataError(
                    f"{where}: {taken[number]!r} and {name!r} both mean the class {names[number]!r}",
                    hint="Merge the folders, or rename one.",
                )
            taken[number] = name
    return np.array([numbers[0] if numbers else -1 for numbers in found], dtype=np.int64)


def by_number(own: Sequence[str], where: str) -> NDArray[np.int64]:
    """Number of the output for each class of the data, whose name it is; (classes,).

    Raises:
        DataError: A name is no number, or two are the same.
    """
    if not all(name.isdecimal() for name in own):
        word = next(name for name in own if not name.isdecimal())
        raise DataError(f"{where} has the class {word!r}, which is no number", hint=f"Leave out --classes {BY_NUMBER}.")
    numbers = np.array([int(name) for name in own], dtype=np.int64)
    if len(set(numbers.tolist())) < len(own):
        raise DataError(f"{where} has two classes of the same number", hint="Merge the folders.")
    return numbers


def doubtful_order(own: Sequence[str], where: str) -> str:
    """A sentence where sorting class folders as text puts them in another order than other ways; else empty.

    Raises:
        DataError: The folders are called 0, 1, 2, ..., and sorted as text get other numbers than their names say.
    """
    if list(own) != sorted(own):
        return ""
    numbers = [int(name) for name in own if name.isdecimal()]
    if len(numbers) == len(own) and sorted(numbers) == list(range(len(own))) != numbers:
        wrong = next(position for position, number in enumerate(numbers) if position != number)
        raise DataError(
            f"{where}: class folders called 0 to {len(own) - 1} sort as text, so that {own[wrong]!r} would be output "
            f"{wrong}",
            hint=f"Where a folder's name is the number of its output, add --classes {BY_NUMBER}; where the network was "
            f"trained with torchvision's ImageFolder, which sorts folders as text, add --classes {BY_ORDER}.",
        )
    natural = sorted(own, key=lambda name: [(len(w), w) if w.isdecimal() else (0, w) for w in re.split(r"(\d+)", name)])
    for other in (natural, sorted(own, key=str.casefold)):
        if other != list(own):
            place = next(number for number, name in enumerate(own) if other[number] != name)
            return (
                f"Class folders are numbered as their names sort as text, as torchvision's ImageFolder numbers them: "
                f"{own[place]!r} is output {place}. If training numbered them otherwise, name the outputs with "
                "--classes FILE."
            )
    return ""


def check_width(classes: Sequence[str], highest: int, outputs: int, said: str = "") -> None:
    """Make sure that labels and outputs can be the same classes.

    Args:
        classes: Class names by label; none where labels are numbers of outputs.
        highest: Highest label.
        outputs: Length of the network's output for one sample, which are scores of classes.
        said: What the data is known to be, for the message.

    Raises:
        DataError: They cannot.
    """
    behind = f" ({said})" if said else ""
    if len(classes) > outputs:
        raise DataError(
            f"the data has {len(classes)} classes, the model {outputs} outputs{behind}",
            hint="Give images of the classes that the model was trained on, or a model trained on these; a folder that "
            "is no class must lie elsewhere. Or add --unlabelled.",
        )
    if classes and len(classes) < outputs:
        synsets = all(_SYNSET.fullmatch(name) for name in classes) and outputs == 1000
        hint = "For ImageNet's own names of classes (n01440764, ...) add --classes imagenet. " if synsets else ""
        if all(name.isdecimal() for name in classes) and max(map(int, classes)) < outputs:
            hint = f"Where a class's name is the number of its output, add --classes {BY_NUMBER}. "
        raise DataError(
            f"the data has {len(classes)} class{'es' * (len(classes) > 1)}, the model {outputs} outputs: which output "
            f"each class means is not known{behind}",
            hint=hint + OTHERWISE,
        )
    if highest >= outputs:
        raise DataError(
            f"the data has the label {highest}, the model outputs 0..{outputs - 1}{behind}",
            hint="Labels must be the numbers that the model was trained with, counted from 0.",
        )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
