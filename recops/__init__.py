"""recops: fast, exact building blocks of recommender models for TensorFlow and Keras."""

from recops import features, layers, losses, models, ops, schedules
from recops._core.dispatch import BackendError, backend, set_backend
from recops._core.info import Info, info
from recops.version import __version__

__all__ = [
    "BackendError",
    "Info",
    "__version__",
    "backend",
    "features",
    "info",
    "layers",
    "losses",
    "models",
    "ops",
    "schedules",
    "set_backend",
]
