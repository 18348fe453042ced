"""What fewer samples, and maps averaged down, cost and change in choosing filters by Betti numbers.

    python -m benchmarks.sampling PART [--networks resnet20,resnet56,fashion,FACTORY] [--samples 1000]

Takes CIFAR-10 and trained weights (--weights, --cifar, --fashion, as the other studies), or a factory with
--checkpoint, --mean and --std, which is scored on crops of photographs; minutes a network.

Parts:

    run     what is not measured yet
    show    the tables

The yardstick are exact maps of --samples calibration images. The first row beside it, as many other images, says what
chance does. Per way of sampling: the rank correlation of a layer's scores with the yardstick's, averaged over layers;
the share of the filters it removes that the yardstick removes too, a quarter of every layer and those above 0.3 · N
(``--max-betti 300`` at N = 1,000); the accuracy that is left at a quarter after reconstruction on 500 images, with a
factory the agreement; and the processor time of scoring as a share of what as many other images
take, in one run.
"""
