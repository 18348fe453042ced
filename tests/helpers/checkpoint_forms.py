"""The forms of checkpoints: what writes each, whose weights must come out, what the note must say."""

from __future__ import annotations

import collections
import datetime
import pathlib

import numpy as np
import torch
from torch import nn

from tests.helpers.checkpoints import (
    AVERAGED,
    RAW,
    Config,
    arrays,
    averaged,
    by_torch,
    inside,
    namespace,
    net,
    optimiser,
    pickled,
    raw,
    safetensors,
    sharded,
    swa,
    training,
    under,
)

FORMS = {
    # name: (what writes the file, whose weights must come out, what the note must say)
    "state dict": (by_torch(raw), RAW, ()),
    "old format": (by_torch(raw, _use_new_zipfile_serialization=False), RAW, ()),
    "safetensors": (safetensors, RAW, ()),
    "torchvision references": (by_torch(lambda: training(model=raw(), args=namespace())), RAW, ("argparse.Namespace",)),
    "imagenet example, DDP": (by_torch(lambda: training(arch="r", state_dict=under("module.", raw()))), RAW, ()),
    "timm": (
        by_torch(lambda: training(state_dict=raw(), state_dict_ema=averaged(), args=namespace(), version=2)),
        AVERAGED,
        ("'state_dict_ema'", "'state_dict' fits as well", "--weights-key"),
    ),
    "DeiT": (
        by_torch(lambda: training(model=raw(), model_ema=averaged(), scaler={"scale": 1.0})),
        AVERAGED,
        ("'model_ema'", "'model' fits as well"),
    ),
    "Lightning": (
        by_torch(
            lambda: {
                "pytorch-lightning_version": "2",
                "state_dict": {**under("model.", raw()), "criterion.weight": torch.ones(3), "acc.tp": torch.ones(3)},
                "optimizer_states": [optimiser()],
                "hyper_parameters": Config(lr=0.1),
                "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.5)}},
            }
        ),
        RAW,
        ("criterion.weight", "acc.tp", "Config"),
    ),
    "Lightning, compiled": (by_torch(lambda: {"state_dict": under("model._orig_mod.", raw())}), RAW, ()),
    "compiled, then DDP": (by_torch(lambda: under("_orig_mod.module.", raw())), RAW, ()),
    "DDP, then compiled": (by_torch(lambda: under("module._orig_mod.", raw())), RAW, ()),
    "model in DDP": (by_torch(lambda: under("model.module.", raw())), RAW, ()),
    "net": (by_torch(lambda: {"net": under("module.", raw()), "acc": 93.1, "epoch": 2}), RAW, ()),
    "net as a prefix": (by_torch(lambda: under("net.", raw())), RAW, ()),
    "net_state_dict": (by_torch(lambda: {"net_state_dict": raw(), "optim_state_dict": optimiser()}), RAW, ()),
    "mmengine": (
        by_torch(
            lambda: {
                "meta": {"time": datetime.datetime(2024, 1, 1), "cfg": "model = 1"},
                "state_dict": {**under("backbone.", raw()), "data_preprocessor.mean": torch.ones(3)},
                "message_hub": {"history": np.float64(3)},
            }
        ),
        RAW,
        ("data_preprocessor.mean", "datetime.datetime"),
    ),
    "mmengine, EMA": (
        by_torch(
            lambda: {
                "state_dict": under("backbone.", raw()),
                "ema_state_dict": {**under("module.backbone.", averaged()), "steps": torch.tensor(5)},
            }
        ),
        AVERAGED,
        ("'ema_state_dict'", "'state_dict' fits as well"),
    ),
    "detectron2, numpy": (
        pickled(lambda: {"model": arrays(raw()), "__author__": "x", "matching_heuristics": True}, 4),
        RAW,
        (),
    ),
    "detectron2, old pickle": (pickled(lambda: {"model": arrays(raw())}, 2), RAW, ()),
    "detectron2, new pickle": (pickled(lambda: {"model": arrays(raw())}, 5), RAW, ()),
    "numpy inside torch.save": (by_torch(lambda: {"state_dict": arrays(raw())}), RAW, ()),
    "fairseq": (
        by_torch(
            lambda: {
                "args": namespace(),
                "cfg": Config(task="x"),
                "model": under("encoder.", raw()),
                "optimizer_history": [{"num_updates": 3}],
                "last_optimizer_state": optimiser(),
            }
        ),
        RAW,
        ("argparse.Namespace",),
    ),
    "DeepSpeed": (
        by_torch(
            lambda: {"module": under("module.", raw()), "buffer_names": [], "optimizer": None, "ds_version": "0.1"}
        ),
        RAW,
        (),
    ),
    "FSDP": (by_torch(lambda: under("_fsdp_wrapped_module.", inside("_fsdp_wrapped_module", raw()))), RAW, ()),
    "activation checkpointing": (by_torch(lambda: inside("_checkpoint_wrapped_module", raw())), RAW, ()),
    "compiled blocks": (by_torch(lambda: inside("_orig_mod", raw())), RAW, ()),
    "averaged by torch": (by_torch(swa), AVERAGED, ("n_averaged",)),
    "averaged of DDP": (
        by_torch(lambda: {"swa": {**under("module.module.", averaged()), "n_averaged": torch.tensor(3)}, "net": raw()}),
        AVERAGED,
        ("'swa'", "'net' fits as well"),
    ),
    "tuple with the epoch": (by_torch(lambda: (raw(), 17)), RAW, ()),
    "list with the optimiser": (by_torch(lambda: [optimiser(), raw()]), RAW, ()),
    "nested": (by_torch(lambda: {"checkpoint": {"state_dict": raw()}, "args": {"lr": 1}}), RAW, ()),
    "nested twice": (by_torch(lambda: {"state": {"model": {"state_dict": raw()}}}), RAW, ()),
    "BasicSR": (
        by_torch(lambda: {"params": raw(), "params_ema": averaged()}),
        AVERAGED,
        ("'params_ema'", "'params' fits as well"),
    ),
    "BasicSR, raw alone": (by_torch(lambda: {"params": raw()}), RAW, ()),
    "ema alone": (by_torch(lambda: {"ema": averaged(), "updates": 100}), AVERAGED, ("'ema'",)),
    "DINO": (
        by_torch(
            lambda: {
                "student": under("module.backbone.", raw()),
                "teacher": {**under("backbone.", averaged()), "head.mlp.weight": torch.ones(2, 2)},
                "args": namespace(),
            }
        ),
        AVERAGED,
        ("'teacher'", "'student' fits as well", "head.mlp.weight"),
    ),
    "student alone": (
        by_torch(lambda: {"student": raw(), "teacher": net(5, width=6).state_dict()}),
        RAW,
        ("'teacher'",),
    ),
    "GAN": (
        by_torch(lambda: {"discriminator": nn.Linear(3, 9).state_dict(), "generator": raw()}),
        RAW,
        ("'generator'", "not used, as not fitting: 'discriminator'"),
    ),
    "ema_pytorch": (
        by_torch(
            lambda: {
                **under("online_model.", raw()),
                **under("ema_model.", averaged()),
                "initted": torch.tensor(True),
                "step": torch.tensor(3),
            }
        ),
        AVERAGED,
        ("'ema_model'", "'online_model' fits as well", "initted"),
    ),
    "torch_ema": (
        by_torch(lambda: {"model": raw(), "ema": {"decay": 0.9, "shadow_params": list(AVERAGED.parameters())}}),
        RAW,
        ("ema.shadow_params", "without names"),
    ),
    "LitEma": (
        by_torch(
            lambda: {**under("model.", raw()), **{f"model_ema.{k.replace('.', '')}": v for k, v in averaged().items()}}
        ),
        RAW,
        ("model_ema.stem0weight", "EMA"),
    ),
    "partial average": (
        by_torch(lambda: {"model": raw(), "model_ema": {"stem.0.weight": averaged()["stem.0.weight"]}}),
        RAW,
        ("not used, as not fitting: 'model_ema'",),
    ),
    "best beside last": (
        by_torch(lambda: {"state_dict": raw(), "best_state_dict": averaged()}),
        AVERAGED,
        ("'best_state_dict'", "'state_dict' fits as well"),
    ),
    "two alike": (by_torch(lambda: {"model": raw(), "state_dict": raw()}), RAW, ()),
    "parameters": (by_torch(lambda: dict(RAW.named_parameters()) | dict(RAW.named_buffers())), RAW, ()),
    "defaultdict": (
        by_torch(lambda: {"state_dict": collections.defaultdict(list, raw()), "log": collections.defaultdict(list)}),
        RAW,
        ("collections.defaultdict",),
    ),
    "path, time, numpy scalar": (
        by_torch(
            lambda: {
                "state_dict": raw(),
                "where": pathlib.PurePosixPath("/data"),
                "when": datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
                "loss": np.float32(0.5),
            }
        ),
        RAW,
        ("pathlib.PurePosixPath", "datetime.datetime", "scalar"),
    ),
    "namespace, old format": (
        by_torch(lambda: {"state_dict": raw(), "args": namespace()}, _use_new_zipfile_serialization=False),
        RAW,
        ("argparse.Namespace",),
    ),
    "pickle protocol 4": (by_torch(raw, pickle_protocol=4), RAW, ()),
    "a module beside the weights": (
        by_torch(lambda: {"state_dict": raw(), "model": AVERAGED}),
        RAW,
        ("pickled modules were not loaded: model",),
    ),
    "operations counted": (
        by_torch(lambda: {**raw(), "stem.0.total_ops": torch.zeros(1).double()}),
        RAW,
        ("total_ops",),
    ),
    "without counters": (by_torch(lambda: {k: v for k, v in raw().items() if "num_batches" not in k}), RAW, ()),
    "parts of safetensors, index": (sharded("safetensors", as_folder=False), RAW, ()),
    "parts of safetensors, folder": (sharded("safetensors", as_folder=True), RAW, ()),
    "parts of torch, index": (sharded("bin", as_folder=False), RAW, ()),
    "parts of torch, folder": (sharded("bin", as_folder=True), RAW, ()),
}
