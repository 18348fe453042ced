"""What fewer samples, and maps averaged down, cost and change in choosing filters by Betti numbers.

    python -m benchmarks.sampling run [--networks resnet20,resnet56,fashion,PACKAGE.MODULE:FACTORY]
        [--weights FOLDER] [--cifar FOLDER] [--fashion FOLDER] [--results FILE.json]
    python -m benchmarks.sampling show

The yardstick are exact maps of 1,000 calibration images (--samples). The first row beside it, as many other images,
says what chance does. Per way of sampling: the rank correlation of a layer's scores with the yardstick's, averaged over
layers; the share of the filters it removes that the yardstick removes too, a quarter of every layer and those above
0.3 · N (``--max-betti 300`` at N = 1,000); the accuracy that is left at a quarter after reconstruction on 500 images;
and the processor time of scoring as a share of the yardstick's, in one run. A factory is scored on crops of
photographs, and agreement takes the place of accuracy: --networks FACTORY --checkpoint FILE --mean M --std S. Resumes.
"""
