"""What is left of networks of other packages, and of a small one of each kind, beside plain torch-pruning.

    python -m benchmarks.networks_of_others [--networks PATTERN] [--again]

Takes no data and downloads nothing: all networks are built without weights, at small input sizes. All together take
about an hour on one core. Packages that are not installed are skipped, and named; none of them is a dependency:

    uv pip install --no-deps timm ultralytics transformers segmentation-models-pytorch monai pytorchcv \\
        facenet-pytorch torchreid \\
        tokenizers regex ultralytics-thop opencv-python-headless requests gdown beautifulsoup4 soupsieve \\
        tensorboard absl-py

Each network gets a process of its own, bounded in time and memory. What it said is kept as it comes (--results), and is
not computed again unless asked for; a run that was stopped goes on. `--table` prints the table of the page.
"""
