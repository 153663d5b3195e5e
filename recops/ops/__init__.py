"""The ops: each checks its arguments and runs on the best backend that takes them."""

from recops._core.dispatch import select
from recops.ops.cross.api import cross_network
from recops.ops.embedding.api import embedding_bag, embedding_lookup
from recops.ops.pairwise.api import (
    bi_interaction,
    field_aware_interaction,
    fm_interaction,
    pairwise_hadamard,
    pairwise_inner,
)

__all__ = [
    "bi_interaction",
    "cross_network",
    "embedding_bag",
    "embedding_lookup",
    "field_aware_interaction",
    "fm_interaction",
    "pairwise_hadamard",
    "pairwise_inner",
    "select",
]
