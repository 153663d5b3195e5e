"""Swaps of the layers of DeepCTR 0.9.4.

Options are read from the layers, for their configs do not hold all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from recops import layers
from recops._core.compat import keras
from recops.accelerate.carry import fields, moved, options, penalty, replacement
from recops.accelerate.deepctr_layers import (
    AttentionalFM,
    AttentionSequencePooling,
    FieldsAdapter,
    PairKernelProduct,
)
from recops.accelerate.registry import Carried, Kept, Replacement, Swap


def _fm(layer: Any, shapes: Any) -> Replacement:
    new = layers.FM(**options(layer))
    new.build(fields(shapes))
    return replacement(layer, new, [])


def _bi_interaction(layer: Any, shapes: Any) -> Replacement:
    return _adapted(layer, shapes, layers.BiInteraction, gives="row")


def _inner_product(layer: Any, shapes: Any) -> Replacement:
    if layer.reduce_sum:
        return _adapted(layer, shapes, layers.InnerProduct, gives="column")
    return _adapted(layer, shapes, layers.PairwiseHadamard)


def _adapted(
    old: Any,
    shapes: Any,
    make: Callable[..., Any],
    carry: Callable[[Any], list[Carried]] = lambda inner: [],
    gives: str = "same",
) -> Replacement:
    """A layer of [B, F, D] in the form of the old one, with the weights that `carry` tells of."""
    fields(shapes)
    policy = options(old)["dtype"]
    inner = make(dtype=policy, name="layer")
    new = FieldsAdapter(inner, gives, **options(old))
    new.build(shapes)
    return replacement(old, new, carry(inner), inner)


def _outer_product(layer: Any, shapes: Any) -> Replacement:
    arrange = {
        # [D, P, D], the right vector's axis first.
        "mat": lambda kernel: kernel.transpose(1, 2, 0),
        "vec": lambda kernel: kernel,
        "num": lambda kernel: kernel[:, 0],
    }[layer.kernel_type]

    def make(**kwargs: Any) -> Any:
        return PairKernelProduct(layer.kernel_type, **kwargs)

    def carry(inner: Any) -> list[Carried]:
        return [moved(inner.kernel, layer.kernel, arrange=arrange)]

    return _adapted(layer, shapes, make, carry)


def _afm(layer: Any, shapes: Any) -> Replacement:
    dropout = layer.dropout

    def make(**kwargs: Any) -> Any:
        return AttentionalFM(
            layer.attention_factor,
            penalty(layer, [layer.attention_W]),
            dropout.rate,
            dropout.seed,
            **kwargs,
        )

    def carry(inner: Any) -> list[Carried]:
        pooling = inner.pooling
        carried = [
            moved(pooling.kernel, layer.attention_W),
            moved(pooling.bias, layer.attention_b),
            moved(pooling.projection, layer.projection_h, arrange=lambda h: h[:, 0]),
            moved(inner.projection, layer.projection_p),
        ]
        # Where Keras 3 keeps it: what is dropped next.
        drawn = getattr(dropout, "seed_generator", None)
        if drawn is not None:
            carried.append(moved(inner.dropout.seed_generator.state, drawn.state))
        return carried

    return _adapted(layer, shapes, make, carry)


def _bilinear(layer: Any, shapes: Any) -> Replacement:
    single = layer.bilinear_type == "all"
    matrices = [layer.W] if single else list(layer.W_list)

    def make(**kwargs: Any) -> Any:
        regularizer = penalty(layer, matrices)
        return layers.BilinearInteraction(
            layer.bilinear_type, kernel_regularizer=regularizer, **kwargs
        )

    def carry(inner: Any) -> list[Carried]:
        if single:
            return [moved(inner.kernel, layer.W)]
        return [moved(inner.kernel, *matrices, arrange=lambda *each: np.stack(each))]

    return _adapted(layer, shapes, make, carry)


def _senet(layer: Any, shapes: Any) -> Replacement:
    def make(**kwargs: Any) -> Any:
        regularizer = penalty(layer, [layer.W_1, layer.W_2])
        return layers.SENET(layer.reduction_ratio, kernel_regularizer=regularizer, **kwargs)

    def carry(inner: Any) -> list[Carried]:
        return [
            moved(inner.squeeze_kernel, layer.W_1),
            moved(inner.excitation_kernel, layer.W_2),
        ]

    return _adapted(layer, shapes, make, carry, gives="list")


def _cin(layer: Any, shapes: Any) -> Replacement:
    shape = fields(shapes, minimum=1)
    new = layers.CIN(
        tuple(layer.layer_size),
        _activation(layer.activation),
        bool(layer.split_half),
        use_bias=True,
        kernel_regularizer=penalty(layer, layer.filters),
        **options(layer),
    )
    new.build(shape)

    def arrange(kernel: np.ndarray) -> np.ndarray:
        # [1, F Hk, H], the fields of the input outside.
        return kernel.reshape(shape[1], -1, kernel.shape[2]).transpose(2, 1, 0)

    carried = [moved(a, b, arrange=arrange) for a, b in zip(new.kernels, layer.filters)]
    carried += [moved(a, b) for a, b in zip(new.biases, layer.bias)]
    return replacement(layer, new, carried)


def _activation(name: Any, *layers_too: str) -> Any:
    """The name of an activation that is a function, or one of those layers."""
    if isinstance(name, str):
        if name in layers_too:
            return name
        try:
            keras.activations.get(name)
        except ValueError:
            pass
        else:
            return name
    raise Kept(f"its activation {name!r} is a layer of its own")


def _cross(layer: Any, shapes: Any) -> Replacement:
    if layer.layer_num < 1:
        raise Kept("it has no layers")
    new = layers.Cross(
        layer.layer_num,
        layer.parameterization,
        kernel_regularizer=penalty(layer, layer.kernels),
        **options(layer),
    )
    new.build(tuple(shapes))

    def arrange(kernel: np.ndarray) -> np.ndarray:
        return kernel[:, 0] if layer.parameterization == "vector" else kernel.T

    carried = [moved(a, b, arrange=arrange) for a, b in zip(new.kernels, layer.kernels)]
    carried += [moved(a, b, arrange=lambda b: b[:, 0]) for a, b in zip(new.biases, layer.bias)]
    return replacement(layer, new, carried)


def _interacting(layer: Any, shapes: Any) -> Replacement:
    products = [layer.W_Query, layer.W_key, layer.W_Value]
    residual = [layer.W_Res] if layer.use_res else []
    new = layers.InteractingLayer(
        layer.head_num,
        layer.att_embedding_size,
        bool(layer.use_res),
        bool(layer.scaling),
        kernel_regularizer=penalty(layer, products + residual),
        **options(layer),
    )
    new.build(fields(shapes, minimum=1))
    carried = [moved(new.kernel, *products, arrange=lambda *each: np.concatenate(each, axis=1))]
    carried += [moved(new.residual_kernel, weight) for weight in residual]
    return replacement(layer, new, carried)


def _sequence_pooling(layer: Any, shapes: Any) -> Replacement:
    unit, hidden = layer.local_att, getattr(layer.local_att, "dnn", None)
    # Keras 3 asks it for its shapes alone until there are values.
    if hidden is None or not hidden.built or not all(a.built for a in hidden.activation_layers):
        raise Kept("it has no weights until its model was called once on a batch")
    if hidden.use_bn or hidden.dropout_rate:
        raise Kept("its unit normalizes or drops what is hidden")
    new = AttentionSequencePooling(
        tuple(layer.att_hidden_units),
        "dice" if layer.att_activation == "Dice" else _activation(layer.att_activation, "dice"),
        bool(layer.weight_normalization),
        bool(layer.return_score),
        by_mask=bool(layer.supports_masking),
        **options(layer),
    )
    new.build(shapes)
    old = [*hidden.kernels, unit.kernel], [*hidden.bias, unit.bias]
    if penalty(layer, old[0] + old[1]) is not None:
        raise Kept("its unit is regularized")
    # With a softmax there is no last bias: it would not see it.
    carried = [moved(*pair) for pair in zip(new.unit.kernels, old[0])]
    carried += [moved(*pair) for pair in zip(new.unit.biases, old[1])]
    if not new.unit.fused and new.unit.activation == "dice":
        for ours, theirs in zip(new.unit.activations, hidden.activation_layers):
            carried += [
                moved(ours.alpha, theirs.alphas),
                moved(ours.normalization.moving_mean, theirs.bn.moving_mean),
                moved(ours.normalization.moving_variance, theirs.bn.moving_variance),
            ]
    return replacement(layer, new, carried)


def _kept(reason: str) -> Callable[[Any, Any], Replacement]:
    def replace(layer: Any, shapes: Any) -> Replacement:
        raise Kept(reason)

    return replace


_PRODUCTS = "its products are TensorFlow's, and in float32 there is nothing faster here"
_SMALL = "it moves or adds numbers, which costs next to nothing"

_INTERACTION = "deepctr.layers.interaction."
SWAPS: tuple[Swap, ...] = (
    Swap(f"{_INTERACTION}FM", "recops.layers.FM", _fm),
    Swap(f"{_INTERACTION}BiInteractionPooling", "recops.layers.BiInteraction", _bi_interaction),
    Swap(f"{_INTERACTION}InnerProductLayer", "recops.layers.InnerProduct", _inner_product),
    Swap(f"{_INTERACTION}OutterProductLayer", "recops.ops.bilinear_interaction", _outer_product),
    Swap(f"{_INTERACTION}AFMLayer", "recops.layers.AttentionalPooling", _afm),
    Swap(f"{_INTERACTION}BilinearInteraction", "recops.layers.BilinearInteraction", _bilinear),
    Swap(f"{_INTERACTION}SENETLayer", "recops.layers.SENET", _senet),
    Swap(f"{_INTERACTION}CIN", "recops.layers.CIN", _cin),
    Swap(f"{_INTERACTION}CrossNet", "recops.layers.Cross", _cross),
    Swap(f"{_INTERACTION}InteractingLayer", "recops.layers.InteractingLayer", _interacting),
    Swap(
        "deepctr.layers.sequence.AttentionSequencePoolingLayer",
        "recops.layers.TargetAttention",
        _sequence_pooling,
    ),
    Swap("deepctr.layers.core.DNN", "", _kept(_PRODUCTS)),
    Swap("deepctr.layers.core.PredictionLayer", "", _kept(_SMALL)),
    *(
        Swap(f"deepctr.layers.utils.{name}", "", _kept(_SMALL))
        for name in ("Linear", "Concat", "NoMask", "_Add")
    ),
)
