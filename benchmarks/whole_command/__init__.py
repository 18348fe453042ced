"""What a user waits for: the whole of ``topocompress prune``, in processor time, beside plain torch-pruning.

    python -m benchmarks.whole_command PART [--cases resnet50,resnet18,resnet18-quick] [--before CHECKOUT]

Takes no data: seeded networks of torchvision at 224 × 224; minutes a case on two cores.

Parts:

    run     every case named, each command in a process of its own, one after the other
    show    the table

Plain torch-pruning loads the checkpoint, cuts by magnitude and exports ONNX; it evaluates, repairs and measures
nothing. What all processes of a command take together counts. --before names another checkout of topocompress, run side
by side.

Cases: ``resnet50`` (l1, ratio 0.3, no data), ``resnet18`` (--max-betti 300, no data), ``resnet50-folder`` and
``resnet18-folder`` (the same with a class folder of 1,250 images, made of crops of photographs), ``resnet18-quick``
(l1, ratio 0.3, no data).
"""
