from .module import TopologicalActivation as TopologicalActivation
