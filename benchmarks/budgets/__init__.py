"""How often a budget of accuracy is exceeded, over many splits of the test images, and what keeping it costs.

    python -m benchmarks.budgets PART [--networks resnet20,fashion] [--weights DIR --cifar DIR --fashion DIR]

Takes CIFAR-10, Fashion-MNIST and trained weights, as the other studies; half an hour a network on two cores.

Parts:

    run     cut each network to many sizes by the defaults of ``prune`` and note which test images each gets right
    show    the search of ``prune --max-accuracy-drop`` simulated on these, 200 splits each; 1,000 where few images both
            judge and are held out

A split draws images that judge and images that are held out from the 10,000 test images. All 10,000 say what is really
lost. Beside it the same search that takes what was measured for what is lost, without a bound and without stepping
back.
"""
