"""Attention and the Transformer's layers for the contract of all layers."""

from __future__ import annotations

from recops import layers
from tests.layers.specs import Spec, _floats
from tests.oracles import transformer as oracle

SPECS = [
    Spec(
        "multi_head_attention",
        lambda **kw: layers.MultiHeadAttention(2, 3, use_bias=False, **kw),
        _floats(5, 4),
        lambda layer, x: oracle.attention(oracle.weights_of(layer), x, x, use_bias=False),
        lambda layer, x, mask: layer(x, x, value_mask=mask),
        call=lambda layer, x: layer(x, x),
    ),
]
