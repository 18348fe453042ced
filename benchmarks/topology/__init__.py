"""How fast and how large the topology engine is, against other engines and against the forward pass.

    python -m benchmarks.topology PART [--data imagefolder:FOLDER]

Takes images of your own with --data, else crops of photographs that ship with scikit-learn. On two cores ``memory``
takes about half an hour, each other part minutes.

Parts:

    loop       one ripser_parallel(X) per filter, as a user would write it
    engines    giotto-ph, ripser and GUDHI on the same clouds
    score      the whole of score against the bare forward passes
    memory     ResNet-50 within --memory 2GB
    growth     how the cost grows with samples, numbers per map and processes
    show       the tables

Every measurement goes into one file as it is made (--results) and is not made again; a run that was stopped goes on.
Ratios are of medians of runs side by side in one process tree.
"""
