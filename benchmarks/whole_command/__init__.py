"""What a user waits for: the whole of ``topocompress prune``, in processor time, beside plain torch-pruning.

    python -m benchmarks.whole_command run [--cases NAME,...] [--work FOLDER] [--before CHECKOUT] [--results FILE.json]
    python -m benchmarks.whole_command show

Seeded networks of torchvision at 224 × 224; no downloads. Plain torch-pruning loads the checkpoint, cuts by magnitude
and exports ONNX; it evaluates, repairs and measures nothing. Every command runs in a process of its own, one after the
other; what their processes take together counts. --before names another checkout of topocompress, run side by side.
Takes about ten minutes on two cores, without --before.

Cases: ``resnet50`` (l1, ratio 0.3, no data), ``resnet18`` (--max-betti 300, no data), ``resnet50-folder`` and
``resnet18-folder`` (the same with a class folder of 1,250 images, made of crops of photographs), ``resnet18-quick``
(l1, ratio 0.3, no data).
"""
