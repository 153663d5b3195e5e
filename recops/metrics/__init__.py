"""Exact metrics: on arrays, and streaming ones for `compile`, `evaluate` and callbacks of Keras."""

from recops.metrics.lists import hit_rate_at_k, mrr_at_k, ndcg_at_k, recall_at_k
from recops.metrics.rows import auc, gauc, log_loss
from recops.metrics.streaming import GAUC, NDCG, HitRate

__all__ = [
    "GAUC",
    "NDCG",
    "HitRate",
    "auc",
    "gauc",
    "hit_rate_at_k",
    "log_loss",
    "mrr_at_k",
    "ndcg_at_k",
    "recall_at_k",
]
