"""Criteria against each other on three networks, with and without fine-tuning.

    python -m benchmarks.arena PART --weights DIR --cifar DIR --fashion DIR [--device cuda] [--recorded] [--jobs N]

Takes three checkpoints in --weights (resnet20-cifar10.safetensors, resnet56-cifar10.safetensors, and
fashion.safetensors, which examples/fashion_mnist.py leaves), CIFAR-10 in --cifar (train/ and test/ with a folder of
images for each class) and the folder FashionMNIST/raw in --fashion. All of it takes hours with a GPU for the
fine-tuning, more than a day without.

Parts, in this order:

    scores    what every criterion says
    run       cells and oracles
    show      tables into docs/research/criteria.md

Scores and images are kept in --work, every finished cell goes into --results, and nothing is done twice. --deadline
ends a run after so many seconds, --only aims it at some criteria, of the study or not. --device cuda trains on a GPU,
by recorded steps with --recorded; scores are always made on the CPU, by ``run`` where ``scores`` has not.
"""
