"""Why layers stay whole: which kind of reason it is, and how it is said. No other place makes these words."""

from __future__ import annotations

from enum import Enum

_ADVICE = "write it with chunk, cat or sizes from x.shape, or leave it whole"


class Kind(Enum):
    """Kinds of reasons; each with its sentence, in which ``{}`` is where, or what."""

    PARAMETER = "coupled to a parameter whose channels cannot be told apart"
    ATTENTION = "read by an attention layer"
    OUTPUT = "feeds the model's output"
    ALSO_OUTPUT = "is itself an output of the model, besides being read by {}"
    LEAVES = "leaves the part of the network that could be followed"
    ENTERS = "its channels come from outside the part of the network that could be followed"
    LOST = "its channels are read where the layers around say that there are other ones{}"
    REARRANGED = "{} rearranges its channels by fixed numbers: " + _ADVICE
    UNSEEN = "not called as a layer of its own when the network runs"
    UNREAD = "nothing that could be followed reads it"
    CHANCY = "reaches a layer that is called on some images only: {}"
    NEVER = "may be read by a layer that was never called when the network was tried: {}"
    REGIONS = "sees regions of images, as many as there are proposals, and not images"
    RECURRENT = "the units of a recurrent layer stay; what it reads may go"
    LINEAR = "linear layers are pruned on request only (--linear)"
    IGNORED = "ignored: {}"
    UNSCORED = "not scored"
    TOGETHER = "its channels can only be removed all together"
    CHANGED = "removing some of its channels on trial changed what the others compute: it stays whole"
    UNTRIED = "there was no time to remove some on trial: groups whose channels cannot be followed took it"
    MISFED = "{} would be given another number of channels than it has: the code before it takes a size from elsewhere"
    WRITTEN = "{} reads it by sizes written in its code or those of another tensor: take its own to let channels go"


ON_TRIAL = frozenset({Kind.CHANGED, Kind.UNTRIED, Kind.MISFED, Kind.WRITTEN, Kind.REARRANGED})
"""What shows when channels are removed on trial, or would."""


class Reason(str):
    """Why a layer stays whole, as it is said.

    Attributes:
        kind: What kind of reason it is; what is read back from a file is text alone.
    """

    __slots__ = ("kind", "where")

    kind: Kind
    where: str

    def __new__(cls, kind: Kind, where: str = "") -> Reason:
        """The sentence of a kind, about a place, a module or a pattern where it has one."""
        said = super().__new__(cls, kind.value.format(where))
        said.kind, said.where = kind, where
        return said

    def __getnewargs__(self) -> tuple[Kind, str]:  # type: ignore[override]
        return self.kind, self.where
