"""Whether every classification network of torchvision can be pruned, run, saved, loaded and exported.

    python -m benchmarks.zoo [--models PATTERN] [--jobs 2] [--time-limit 300]

Takes no data; crops of photographs that ship with scikit-learn stand in, unless there is --data. All networks together
take four to five hours on two cores, a small one about a minute.

Each network gets a process of its own, limited in time and memory. Its result goes into one file as soon as it is there
(--results) and is not computed again, failures included, unless asked for with --again; a run that was stopped goes on.
The page (--docs) is written from that file.
"""
