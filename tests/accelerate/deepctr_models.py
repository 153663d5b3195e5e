"""Small models of DeepCTR: how they are built, a batch, and which of their layers are swapped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

# Importing it asks the network for its newest version.
with mock.patch("requests.get", side_effect=ConnectionError):
    from deepctr import models
    from deepctr.feature_column import DenseFeat, SparseFeat, VarLenSparseFeat

IDS, DIM, ROWS = 12, 4, 32


class Built(NamedTuple):
    """A function that builds a model, and the classes in it that are swapped, sorted."""

    build: Callable[[], Any]
    swapped: tuple[str, ...]


def columns() -> list[Any]:
    return [SparseFeat(f"c{i}", IDS + i, DIM) for i in range(4)]


def _of(name: str, **options: Any) -> Callable[[], Any]:
    """A model of two lists of columns; in the first order Keras 3 lets DeepCTR have no numbers."""

    def build() -> Any:
        return getattr(models, name)(columns(), [*columns(), *NUMBERS], **options)

    return build


def _of_ids(name: str, *, lists: int = 2, **options: Any) -> Callable[[], Any]:
    return lambda: getattr(models, name)(*[columns()] * lists, **options)


def _din(**options: Any) -> Callable[[], Any]:
    item = SparseFeat("item", IDS, DIM)
    seen = VarLenSparseFeat(SparseFeat("hist_item", IDS, DIM, embedding_name="item"), maxlen=5)
    user = SparseFeat("user", IDS, DIM)
    return lambda: models.DIN(
        [user, item, seen], ["item"], dnn_hidden_units=(8,), att_hidden_size=(6, 3), **options
    )


NUMBERS = [DenseFeat("n", 2)]
_DEEP = {"dnn_hidden_units": (8, 4)}
_CIN = {"cin_layer_size": (6, 4), "l2_reg_cin": 0.01}
_OUTER = {"use_inner": False, "use_outter": True}
_TABLES = ("4 Embedding", "4 Embedding")
_ATTENTION = "AttentionSequencePoolingLayer"
MODELS = {
    "AFM": Built(_of_ids("AFM", l2_reg_att=0.1), (*_TABLES, "AFMLayer")),
    "AFM without attention": Built(_of_ids("AFM", use_attention=False), (*_TABLES, "FM")),
    "AutoInt": Built(_of("AutoInt", **_DEEP), (*_TABLES, *["InteractingLayer"] * 3)),
    "DCN": Built(_of("DCN", l2_reg_cross=0.1, **_DEEP), (*_TABLES, "CrossNet")),
    "DCN matrix": Built(
        _of("DCN", cross_parameterization="matrix", **_DEEP), (*_TABLES, "CrossNet")
    ),
    "DeepFM": Built(_of("DeepFM", l2_reg_linear=0.1, **_DEEP), (*_TABLES, "FM")),
    "DIN": Built(_din(), ("2 Embedding", _ATTENTION)),
    "DIN softmax": Built(
        _din(att_activation="sigmoid", att_weight_normalization=True), ("2 Embedding", _ATTENTION)
    ),
    "FiBiNET": Built(
        _of("FiBiNET", **_DEEP), (*_TABLES, *["BilinearInteraction"] * 2, "SENETLayer")
    ),
    "FiBiNET all": Built(
        _of("FiBiNET", bilinear_type="all", **_DEEP),
        (*_TABLES, *["BilinearInteraction"] * 2, "SENETLayer"),
    ),
    "MLR": Built(_of_ids("MLR", lists=1, region_num=3), ("24 Embedding",)),
    "NFM": Built(_of("NFM", **_DEEP), (*_TABLES, "BiInteractionPooling")),
    "PNN": Built(_of_ids("PNN", lists=1, **_DEEP), ("4 Embedding", "InnerProductLayer")),
    "PNN outer": Built(
        _of_ids("PNN", lists=1, **_OUTER, **_DEEP), ("4 Embedding", "OutterProductLayer")
    ),
    "xDeepFM": Built(_of("xDeepFM", **_CIN, **_DEEP), (*_TABLES, "CIN")),
}


def batch(model: Any) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Inputs and labels of it."""
    rng = np.random.default_rng(0)
    inputs = {}
    for each in model.inputs:
        shape = (ROWS, *each.shape[1:])
        low = 1 if each.name == "item" else 0
        ids = rng.integers(low, IDS, shape).astype("int32")
        inputs[each.name] = rng.normal(size=shape).astype("f") if each.name == "n" else ids
    return inputs, rng.integers(0, 2, (ROWS, 1)).astype("float32")
