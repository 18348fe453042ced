"""Descriptions of runs that an attacker has changed and signed again."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

Change = Callable[[dict[str, Any]], Any]


def changes() -> dict[str, tuple[Change, tuple[str, ...]]]:
    """By name: what an attacker did to the description of a run and signed again, and words of the command."""

    def arch(kind: str, name: str, **options: Any) -> Change:
        return lambda m: m.update(architecture={"kind": kind, "name": name, "options": options})

    def group(**values: Any) -> Change:
        return lambda m: m["plans"][0]["groups"][0].update(values)

    def of(**values: Any) -> Change:
        return lambda m: m.update(values)

    def seen(**values: Any) -> Change:
        return lambda m: m["preprocessing"].update(values)

    payload = {"path_name": "nets.py", "command": "touch executed"}
    return {
        **{
            f"{kind} {name}, --arch {said}": (arch(kind, name, **payload), ("--arch", said) if said else ())
            for kind in ("object", "factory")
            for name in ("runpy:run_path", "os:system", "nets:attacked")
            for said in ("", "os:system", "runpy:run_path", "nets:attacked", "nets:good")
        },
        **{
            f"{name} {json.dumps(options)}": (arch("torchvision", name, **options), ())
            for name, options in (
                ("fcn_resnet50", {"weights_backbone": "DEFAULT"}),
                ("resnet18", {"weights": "DEFAULT"}),
                ("resnet18", {"num_classes": 2_000_000}),
                ("resnet18", {"num_classes": -1}),
                ("resnet18", {"num_classes": True}),
                ("wide_resnet50_2", {"width_per_group": 10**7}),
                ("resnext101_64x4d", {"width_per_group": 512, "groups": 64}),
                ("densenet121", {"growth_rate": 10**6}),
                ("mobilenet_v2", {"width_mult": 1e300}),
                ("resnet18", {"in_channels": 10**9}),
                ("no such", {}),
                ("../project", {}),
            )
        },
        "timm, a file": (arch("timm", "resnet10t", checkpoint_path="evil.pth"), ()),
        "timm, a hub": (arch("timm", "hf-hub:evil/net"), ()),
        **{
            f"input {shape}": (seen(input_shape=shape), ())
            for shape in ([1, 12_000, 12_000], [0, 1, 1], [1], "x", None)
        },
        **{f"mean {value}": (seen(mean=[value]), ()) for value in (float("nan"), float("inf"), "x", None)},
        **{f"std {value}": (seen(std=[value]), ()) for value in (float("nan"), 0.0, -1.0)},
        **{f"resize {value}": (seen(resize=value), ()) for value in (0, -1, 200_000, 1.5, "x")},
        **{f"remove {value}": (group(remove=value), ()) for value in ([-1], [1, 1], ["1"], [True], [10**9], "x", None)},
        **{f"width {value}": (group(width=value), ()) for value in (0, -1, 10**15, 1.5)},
        **{f"root {value!r}": (group(root=value), ()) for value in ("", "no", "../x", "\x1b[31mred", "[/]x", None)},
        **{
            f"files {value!r:.30}": (of(files=value), ())
            for value in ([], "x", 7, None, {"n" * 300: ""}, {"../m.pt": ""})
        },
        **{f"plans {value!r:.30}": (of(plans=value), ()) for value in ([], {}, [[]], None, [{}] * 20_000)},
        **{f"classes {value!r:.30}": (of(classes=value), ()) for value in (["x"] * 200_000, "x", [1], ["x" * 10**7])},
        **{f"{key} gone": (lambda m, key=key: m.pop(key), ()) for key in ("plans", "model", "architecture")},
        "deep": (of(more=json.loads("[" * 400 + "]" * 400)), ()),
        "another format": (of(format="other"), ()),
        "another version": (of(version=10**30), ()),
    }
