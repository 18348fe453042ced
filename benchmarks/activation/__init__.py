"""The topological activation against today's: training steps, accuracy, topology, cost.

    python -m benchmarks.activation PART... [--fashion DIR] [--cifar DIR] [--device cuda] [--jobs N]

Takes Fashion-MNIST (the folder of its four gzipped files) and CIFAR-10 (train/ and test/ with a folder of images for
each class, or a tar of it) for the parts on images, no data for the others. The CNNs train for minutes on a GPU and for
hours on a CPU, everything else for minutes.

Parts, of which several may be named and which are done in that order:

    grid          networks drawn at random, on sets of known topology
    image-grid    small CNNs on images of half the size
    sets          named settings on those sets
    networks      networks for betti, all of the same accuracy
    betti         through the layers of those networks
    tried         how ours was chosen there
    candidates    what was tried in CNNs
    images        CNNs
    cost          a training step, and ONNX Runtime
    show          tables and plots into docs/research/activation.md

Every result goes into one file as it is made (--results) and is not made again; a run that was stopped goes on, and one
with --deadline stops by itself. With --device cuda, runs are trained side by side on a GPU; betti and cost stay on the
CPU. With --precision bf16 CNNs compute in mixed precision, for CPUs that are fast in it; rows and tables say so.
"""
