"""How each model of the catalogue is trained where nothing else is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Settings:
    """How a model is trained where nothing else is asked for: sizes, steps, and its own options."""

    embedding_dim: int = 16
    batch_size: int = 512
    learning_rate: float = 1e-3
    patience: int = 2
    options: Mapping[str, Any] = field(default_factory=dict)


# Chosen by validation AUC on MovieLens 100K, but for LSPLM, NeuralCF, XDeepFM, AutoInt, DSIN and
# BST, which start from their kin's. A person's taste shows in a hundred ratings or so: without a
# penalty the embeddings learn these by heart within a few epochs.
_DEEP = Settings(options={"l2_embedding": 1e-3, "dropout": 0.3})
# Where a first order stands beside the interactions alone, it must keep pace with them: rare ids
# get few steps, so the steps are large ones on large batches.
_SHALLOW = Settings(batch_size=2048, learning_rate=3e-3, patience=3)
# With Dice and batch normalization DIN learns faster here, and ends lower.
_INTEREST = replace(
    _DEEP,
    learning_rate=2e-3,
    options={**_DEEP.options, "activation": "relu", "use_bn": False},
)
TRAINING: dict[str, Settings] = {
    "FM": replace(_SHALLOW, options={"l2_embedding": 1e-4}),
    "FFM": replace(_SHALLOW, options={"l2_embedding": 1e-4}),
    "LSPLM": replace(_SHALLOW, options={"l2": 1e-4}),
    "NeuralCF": replace(_DEEP, options={**_DEEP.options, "mf_dim": 16}),
    "WideDeep": _DEEP,
    "DCN": _DEEP,
    "DeepFM": _DEEP,
    "XDeepFM": replace(_DEEP, options={**_DEEP.options, "layer_size": (32, 32)}),
    # The paper's three wide layers are meant for more data than this.
    "NFM": replace(_DEEP, options={**_DEEP.options, "hidden_units": (64,)}),
    # Its pooling is an average over the pairs, so the embeddings' gradients are small.
    "AFM": replace(_SHALLOW, learning_rate=1e-2, options={"l2_embedding": 1e-5, "dropout": 0.2}),
    "PNN": _DEEP,
    "FiBiNET": _DEEP,
    "AutoInt": replace(_DEEP, options={**_DEEP.options, "hidden_units": (64,)}),
    "YoutubeDNNRanking": replace(_DEEP, options={**_DEEP.options, "hidden_units": (256, 128)}),
    "DIN": _INTEREST,
    "DIEN": _INTEREST,
    "DSIN": _DEEP,
    # As NFM's: the paper's layers are meant for more data.
    "BST": replace(_DEEP, options={**_DEEP.options, "hidden_units": (200, 80)}),
    "YoutubeDNNRetrieval": Settings(embedding_dim=32, patience=3),
}
