"""Attention and the Transformer's layers for the contract of all layers."""

from __future__ import annotations

from recops import layers
from tests.layers.spec import Spec, call_masked, floats
from tests.oracles import transformer as oracle

SPECS = [
    Spec(
        "multi_head_attention",
        lambda **kw: layers.MultiHeadAttention(2, 3, use_bias=False, **kw),
        floats(5, 4),
        lambda layer, x: oracle.attention(oracle.weights_of(layer), x, x, use_bias=False),
        lambda layer, x, mask: layer(x, x, value_mask=mask),
        call=lambda layer, x: layer(x, x),
    ),
    Spec(
        "positional_encoding",
        lambda **kw: layers.PositionalEncoding(**kw),
        floats(5, 4),
        lambda layer, x: 2 * x + oracle.positions(5, 4),
        runs_op=False,
    ),
    *(
        Spec(
            f"transformer_encoder_{order}",
            lambda first=first, **kw: layers.TransformerEncoder(
                2, 6, dropout=0.0, norm_first=first, **kw
            ),
            floats(5, 4),
            oracle.block,
            call_masked,
        )
        for order, first in (("post", False), ("pre", True))
    ),
    Spec(
        "transformer_decoder",
        lambda **kw: layers.TransformerDecoder(2, 6, dropout=0.0, **kw),
        floats(5, 4),
        lambda layer, x: oracle.block(layer, x, x),
        lambda layer, x, mask: layer(x, x, mask=mask, encoded_mask=mask),
        call=lambda layer, x: layer(x, x),
    ),
]
