"""Fine-tuning a smaller network: on labels, on the unpruned network's outputs, or on both.

In: a module, its teacher, samples, a recipe. Out: a trained copy and its history; epochs on disk to continue from. May
import :mod:`~topocompress.surgery`, :mod:`~topocompress.data` and below; the only user of Accelerate.
"""
