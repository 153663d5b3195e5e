"""Keras optimizers whose step costs what the rows in the batch cost, not what the table does."""

from recops.optimizers.by_path import ByPath
from recops.optimizers.lazy_adagrad import LazyAdagrad
from recops.optimizers.lazy_adam import LazyAdam
from recops.optimizers.lazy_ftrl import LazyFTRL
from recops.optimizers.rowwise_adagrad import RowwiseAdagrad

__all__ = ["ByPath", "LazyAdagrad", "LazyAdam", "LazyFTRL", "RowwiseAdagrad"]
