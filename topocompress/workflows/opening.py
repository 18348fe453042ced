"""Anything that can be pruned, loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from topocompress.errors import ModelError
from topocompress.models.loading import LoadedModel, load_model
from topocompress.models.preprocessing import check_runs, overridden
from topocompress.runtime.outputs import is_run


def open_model(source: str | Path, *, arch: str | None = None, **options: Any) -> LoadedModel:
    """Load anything that can be pruned: what :func:`topocompress.models.load_model` takes, or a run directory.

    Of the options a run directory takes those that say how images are prepared, and the arguments of ``arch``.

    Raises:
        ModelError: The model is not usable, or the options are not.
        ArtifactError: The run directory is not usable.
    """
    if not is_run(source):
        return load_model(source, arch=arch, **options)
    built = [name for name in ("weights", "weights_key") if options.get(name) not in (None, {})]
    if built:
        words = ", ".join(f"--{name.replace('_', '-')}" for name in built)
        raise ModelError(
            f"{words} given beside the run directory {source}, which says itself how its network is built",
            hint="Leave it out; --arch names the factory of a network of your own.",
        )
    from topocompress.surgery.run_directory import load_run  # and so all that cuts networks, for runs alone

    loaded = load_run(source, arch=arch, arch_args=options.get("arch_args"))
    names = ("input_size", "mean", "std", "resize", "pixel_range")
    preprocessing = overridden(loaded.preprocessing, **{name: options.get(name) for name in names})
    if preprocessing.input_shape != loaded.preprocessing.input_shape:
        check_runs(loaded.module, preprocessing, str(source), own=False)
    return replace(loaded, preprocessing=preprocessing)
