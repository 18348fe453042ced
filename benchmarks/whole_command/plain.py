"""A checkpoint of torchvision's cut by plain torch-pruning and exported: what its users write, and no more.

Arguments: the network's name, the checkpoint, the ratio, the file to write.
"""

import sys

import torch
import torch_pruning as tp
import torchvision


def main(name: str, checkpoint: str, ratio: str, target: str) -> None:
    state = torch.load(checkpoint, weights_only=True)
    model = torchvision.models.get_model(name, weights=None, num_classes=len(state["fc.bias"]))
    model.load_state_dict(state)
    model.eval()
    example = torch.randn(1, 3, 224, 224)
    importance = tp.importance.GroupMagnitudeImportance(p=1)
    pruner = tp.pruner.MagnitudePruner(
        model, example, importance=importance, pruning_ratio=float(ratio), ignored_layers=[model.fc]
    )
    pruner.step()
    batch = torch.export.Dim("batch")
    torch.onnx.export(
        model, (example.repeat(2, 1, 1, 1),), target, dynamo=True, dynamic_shapes=({0: batch},), verbose=False
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
