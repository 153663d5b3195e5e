"""The public names of the package, all of them; importing them brings TensorFlow."""

from recops import (
    data,
    features,
    layers,
    losses,
    metrics,
    models,
    ops,
    optimizers,
    profiling,
    retrieval,
    schedules,
)
from recops._core.dispatch import BackendError, backend, set_backend
from recops._core.info import Info, info
from recops.accelerate import accelerate
from recops.explain import Explanation, explain
from recops.export import export
from recops.version import __version__

__all__ = [
    "BackendError",
    "Explanation",
    "Info",
    "__version__",
    "accelerate",
    "backend",
    "data",
    "explain",
    "export",
    "features",
    "info",
    "layers",
    "losses",
    "metrics",
    "models",
    "ops",
    "optimizers",
    "profiling",
    "retrieval",
    "schedules",
    "set_backend",
]
