"""The ops: each checks its arguments and runs on the best backend that takes them."""

from recops.ops.attention.api import multi_head_attention
from recops.ops.attentional_pooling.api import attentional_pooling
from recops.ops.bilinear.api import bilinear_interaction
from recops.ops.cin.api import cin, compressed_interaction
from recops.ops.cross.api import cross_network
from recops.ops.dense.api import dense
from recops.ops.dynamic_gru.api import dynamic_gru
from recops.ops.embedding.api import embedding_bag, embedding_lookup
from recops.ops.outer_product.api import outer_product
from recops.ops.pairwise.api import (
    bi_interaction,
    field_aware_interaction,
    fm_interaction,
    pairwise_hadamard,
    pairwise_inner,
)
from recops.ops.row_update.api import row_sums, row_update
from recops.ops.sampled_softmax.api import in_batch_softmax, sampled_softmax
from recops.ops.selection import select
from recops.ops.target_attention.api import target_attention

__all__ = [
    "attentional_pooling",
    "bi_interaction",
    "bilinear_interaction",
    "cin",
    "compressed_interaction",
    "cross_network",
    "dense",
    "dynamic_gru",
    "embedding_bag",
    "embedding_lookup",
    "field_aware_interaction",
    "fm_interaction",
    "in_batch_softmax",
    "multi_head_attention",
    "outer_product",
    "pairwise_hadamard",
    "pairwise_inner",
    "row_sums",
    "row_update",
    "sampled_softmax",
    "select",
    "target_attention",
]
