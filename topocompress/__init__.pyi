__version__: str

from .activation.module import TopologicalActivation as TopologicalActivation
from .criteria.betti import Betti as Betti
from .deploy.bench import bench as bench
from .deploy.export import export_onnx as export_onnx
from .deploy.latency import compare_latency as compare_latency
from .errors import TopocompressError as TopocompressError
from .reconstruction.distillation import distill_blocks as distill_blocks
from .reconstruction.refit import reconstruct as reconstruct
from .reporting.persistence_plots import plot_filter as plot_filter
from .surgery.activations import fold_back as fold_back
from .surgery.activations import swap_activations as swap_activations
from .surgery.removal import apply as apply
from .surgery.run_directory import load as load
from .surgery.run_directory import save as save
from .training.finetuning import finetune as finetune
from .training.recipe import Recipe as Recipe
from .workflows.compare import compare as compare
from .workflows.compress import compress as compress
from .workflows.inspect import inspect_filter as inspect_filter
from .workflows.single_steps import measure as measure
from .workflows.single_steps import plan as plan
from .workflows.single_steps import score as score
