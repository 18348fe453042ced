"""What pruning cost in a finished run, against the unpruned network after the very same fine-tuning.

    python -m benchmarks.recovery RUN CHECKPOINT --arch ARCH --data DATA --out FOLDER

Takes the run directory that ``topocompress prune CHECKPOINT --arch ARCH --data DATA --finetune 4 --out RUN`` leaves,
with the checkpoint and the images it was made from, and as long as its fine-tuning took.

Recipe, seed and number of samples come from RUN/report.json. The unpruned network is fine-tuned by them on the same
images, and both are measured on the same held-out ones. Epochs are kept in --out, so a benchmark that was stopped goes
on.

The epoch to keep is chosen on a tenth of the training images. The original may have been trained on these, and then
looks better there than anything that follows; so the last epoch counts as well, and the best of all is compared with.
"""
