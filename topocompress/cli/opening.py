"""Options that say how a model and its data are read, and what they open."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from topocompress.cli.asking import asking
from topocompress.cli.values import arguments, pixels
from topocompress.errors import DataError

if TYPE_CHECKING:
    from topocompress.data.loading import Data
    from topocompress.models.loading import LoadedModel

Arch = Annotated[
    str | None,
    typer.Option("--arch", help="Architecture of the checkpoint: a torchvision name, timm:NAME or pkg.module:factory."),
]
Weights = Annotated[
    str | None, typer.Option("--weights", help="For a name: a checkpoint file, or DEFAULT for the published ones.")
]
WeightsKey = Annotated[
    str | None,
    typer.Option(
        "--weights-key",
        help="Which weights of a checkpoint to take, as dotted keys; without it, an average (EMA) before raw ones.",
    ),
]
ArchArgs = Annotated[
    list[str] | None,
    typer.Option(
        "--arch-args",
        help="Arguments for the factory or architecture, such as num_classes=5 or 'width=0.5 name=abc'. Repeatable.",
        metavar="NAME=VALUE",
    ),
]
TrustPickle = Annotated[
    bool, typer.Option("--trust-pickle", help="Unpickle a whole module. It can run any code: only for your own files.")
]
InputSize = Annotated[
    str | None,
    typer.Option(
        "--input-size",
        help="Input size in pixels, S or HxW; by default the network's input_shape or that of its weights, else found "
        "out, asked for in a terminal, or 224.",
        metavar="S|HxW",
    ),
]
Resize = Annotated[int | None, typer.Option("--resize", help="Short side in pixels before the centre crop.", max=8192)]
Mean = Annotated[str | None, typer.Option("--mean", help="Normalisation mean per channel, 0..1, comma-separated.")]
Std = Annotated[str | None, typer.Option("--std", help="Normalisation standard deviation per channel, 0..1.")]
Range = Annotated[
    str | None,
    typer.Option(
        "--pixel-range",
        help="Numbers for black and white in images of more than 8 bits, such as 0,4095; by default by all images.",
        metavar="LOW,HIGH",
    ),
]
ValData = Annotated[
    str | None,
    typer.Option(
        "--val-data", metavar="FOLDER", help="Images of the same classes to measure on, in place of some of --data."
    ),
]
TrainedOn = Annotated[
    bool | None,
    typer.Option(
        "--trained-on/--not-trained-on",
        help="Whether the model was trained on the images of --data: marks what is measured on them.",
        show_default="not known",
    ),
]
Download = Annotated[bool, typer.Option("--download", help="Let torchvision download the data set.")]
Strict = Annotated[bool, typer.Option("--strict", help="Refuse a folder with an unreadable image.")]
Classes = Annotated[
    str | None,
    typer.Option(
        "--classes",
        help="What the outputs mean, to match class folders to by name: a file of names, one a line in their order (or "
        "JSON); imagenet; by-number where folders are called by the number of their output; by-order where they are "
        "sorted as text.",
        metavar="FILE|WORD",
        show_default="the names that come with the model, else by-order where there are as many folders as outputs",
    ),
]
Unlabelled = Annotated[
    bool, typer.Option("--unlabelled", help="Leave out labels: likeness to the original is measured, not accuracy.")
]


@dataclass(frozen=True, kw_only=True)
class Opening:
    """How a model and its data are read."""

    arch: Arch = None
    weights: Weights = None
    weights_key: WeightsKey = None
    arch_args: ArchArgs = None
    trust_pickle: TrustPickle = False
    input_size: InputSize = None
    resize: Resize = None
    mean: Mean = None
    std: Std = None
    pixel_range: Range = None
    val_data: ValData = None
    trained_on: TrainedOn = None
    download: Download = False
    strict: Strict = False
    classes: Classes = None
    unlabelled: Unlabelled = False

    def check(self, model: str, data: str | None) -> None:
        """Refuse what surely cannot be opened, before torch is loaded.

        Raises:
            TopocompressError: A file that is missing or no checkpoint, an unknown name, a value that cannot be read.
        """
        from topocompress.data.checks import WORDS
        from topocompress.data.checks import check_source as check_data
        from topocompress.models.class_names import given_classes
        from topocompress.models.sources import check_source as check_model

        self._read()
        check_model(model, arch=self.arch, weights=self.weights)
        check_data(data, download=self.download, validation=self.val_data)
        if self.trained_on is not None and data is None and model != "digits":
            given = "--trained-on" if self.trained_on else "--not-trained-on"
            raise DataError(f"{given} is about the images of --data, and none are given", hint="Add --data FOLDER.")
        if self.classes is not None:
            given_classes(self.classes, WORDS)

    def inputs(self, model: str, data: str | None) -> list[Path]:
        """Files and folders that opening reads, which no output may touch."""
        from topocompress.data import checks
        from topocompress.models import sources

        more = [Path(given) for given in (self.classes, self.val_data) if given is not None]
        return [*sources.paths_of(model, arch=self.arch, weights=self.weights), *checks.paths_of(data), *more]

    def _read(self) -> dict[str, Any]:
        """The options that are more than a text."""
        return {
            "arch_args": arguments(self.arch_args or ()),
            "input_size": pixels(self.input_size),
            "mean": _numbers("--mean", self.mean),
            "std": _numbers("--std", self.std),
            "pixel_range": _two("--pixel-range", self.pixel_range),
        }

    def load(
        self,
        model: str,
        data: str | None,
        *,
        samples: int | str,
        eval_samples: int,
        seed: int,
        outputs_matter: bool = True,
        targets: bool = False,
        judging: int = 0,
    ) -> tuple[LoadedModel, Data]:
        """The model and its samples; whether the labels of these must mean the outputs of that.

        Raises:
            TopocompressError: One of them is not usable.
        """
        from topocompress.data.image_sizes import common_size
        from topocompress.workflows.opening import open_model

        loaded = open_model(
            model,
            images=lambda: common_size(data),
            ask=asking(model),
            arch=self.arch,
            weights=self.weights,
            weights_key=self.weights_key,
            trust_pickle=self.trust_pickle,
            resize=self.resize,
            **self._read(),
        )
        from topocompress.workflows.samples import open_data  # loads much that a model which is refused does not need

        return open_data(
            loaded,
            data if data or model != "digits" else "digits",
            classes=self.classes,
            unlabelled=self.unlabelled,
            outputs_matter=outputs_matter,
            samples=samples,
            seed=seed,
            eval_samples=eval_samples,
            download=self.download,
            **({} if self.val_data is None else {"validation": Path(self.val_data).expanduser()}),
            strict=self.strict,
            trained_on=self.trained_on,
            targets=targets,
            judging=judging,
        )


def opened(loaded: LoadedModel, data: Data) -> list[str]:
    """What is taken for granted of a model and its samples, and what else to tell of them before the work."""
    lines = (loaded.doubt, assumed(loaded, data), loaded.note, data.note, data.pixels, *data.warnings)
    return [line for line in lines if line]


def assumed(loaded: LoadedModel, data: Data) -> str:
    """Inputs, their preparation, classes, samples and device, in one line."""
    from dataclasses import asdict

    from topocompress.network.inference import device_of, sample_count
    from topocompress.reporting.wording import feeding

    shape = loaded.preprocessing.input_shape
    inputs = feeding(asdict(loaded.preprocessing)) if loaded.preprocessing.is_image else ""
    said = [
        f"inputs {inputs or ' × '.join(map(str, shape))}",
        f"{len(data.classes)} classes" if data.labelled and data.classes else "" if data.labelled else "no labels",
        f"{sample_count(data.calibration)} samples to calibrate, {sample_count(data.evaluation)} held out"
        + ("" if data.judging is None else f", {sample_count(data.judging)} to judge sizes by"),
        str(device_of(loaded.module)),
    ]
    return f"{loaded.source}: {'; '.join(filter(None, said))}"


def _numbers(option: str, text: str | None, example: str = "0.485,0.456,0.406") -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError as error:
        raise DataError(f"cannot read {option} {text!r}", hint=f"For example: {option} {example}") from error


def _two(option: str, text: str | None) -> tuple[float, float] | None:
    found = _numbers(option, text, "0,4095")
    if found is None:
        return None
    if len(found) != 2:
        raise DataError(f"cannot read {option} {text!r}", hint=f"Two numbers, for black and white: {option} 0,4095")
    return found[0], found[1]
