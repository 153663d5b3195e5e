"""DSIN's session interests from Feng 2019, one session at a time, with the weights of a layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.oracles.attention import multi_head_attention
from tests.oracles.bilstm import stacks
from tests.oracles.target_attention import target_attention


def _normalized(layer: Any, x: np.ndarray) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    return scaled * np.asarray(layer.gamma) + np.asarray(layer.beta)


def _dense(layer: Any, x: np.ndarray) -> np.ndarray:
    return x @ np.asarray(layer.kernel, np.float64) + np.asarray(layer.bias)


def bias_encoding(layer: Any, x: np.ndarray) -> np.ndarray:
    out = np.array(x, np.float64)
    for k, t, c in np.ndindex(x.shape[1:]):
        out[:, k, t, c] += (
            np.asarray(layer.session_bias)[k]
            + np.asarray(layer.step_bias)[t]
            + np.asarray(layer.channel_bias)[c]
        )
    return out


def session_extractor(layer: Any, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """[B, K, D] from sessions [B, K, T, D] cut to their kept steps."""
    batch, count, _, dim = x.shape
    out = np.zeros((batch, count, dim))
    x = bias_encoding(layer.positions, x) if layer.use_positional else np.array(x, np.float64)
    heads, kernel = layer.num_heads, np.asarray(layer.kernel, np.float64)
    for b, k in np.ndindex(batch, count):
        steps = x[b, k][mask[b, k]]
        if not len(steps):
            continue
        split = (1, len(steps), heads, dim // heads)
        query, key, value = (
            (steps @ kernel[:, i * dim : (i + 1) * dim]).reshape(split) for i in range(3)
        )
        keys = ~np.eye(len(steps), dtype=bool)[None] if layer.mask_diagonal else None
        y = multi_head_attention(query, key, value, keys, layer.causal)[0].reshape(steps.shape)
        steps = steps + y @ np.asarray(layer.output_kernel)
        if layer.use_layer_norm:
            steps = _normalized(layer.normalizations[0], steps)
        hidden = np.maximum(_dense(layer.intermediate, steps), 0)
        steps = steps + _dense(layer.narrowed, hidden)
        if layer.use_layer_norm:
            steps = _normalized(layer.normalizations[1], steps)
        out[b, k] = steps.mean(0)
    return out


def session_interest(
    layer: Any, query: np.ndarray, sessions: np.ndarray, mask: np.ndarray
) -> np.ndarray:
    """[B, 2 D]; sessions without a step are gone from both attentions and from the LSTMs."""
    interests = session_extractor(layer.extractor, sessions, mask)
    kept = mask.any(2)
    forward, backward = stacks(layer.bilstm, interests, kept)
    pooled = []
    for attention, keys in zip(layer.attentions, (interests, (forward + backward) / 2)):
        kernels, biases = (
            [np.asarray(w, np.float64) for w in ws] for ws in (attention.kernels, attention.biases)
        )
        normalize = attention.weight_normalization
        args = (query, keys, kernels, biases, kept, attention.activation, normalize)
        pooled.append(target_attention(*args)[0])
    return np.concatenate(pooled, axis=1)
