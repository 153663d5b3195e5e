"""LS-PLM, the piecewise linear model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recops._core.compat import keras
from recops.features import Feature
from recops.layers import Linear, RegionMixture
from recops.models._parts import Parts, join
from recops.models.feature_model import FeatureModel, assembled


def LSPLM(
    features: Sequence[Feature],
    *,
    regions: int = 12,
    region_features: Sequence[str] | None = None,
    base_features: Sequence[str] | None = None,
    l1: float = 0.0,
    l2: float = 0.0,
    l2_embedding_rows: str = "all",
    task: str = "binary",
    backend: str | None = None,
    seed: int | None = None,
) -> Any:
    """Large-scale piecewise linear model (MLR): a mixture of logistic regressions.

        y = sum_r softmax_r(U x_u)_r sigmoid(W x_b)_r

    Args:
      features: any.
      regions: m, how many logistic regressions.
      region_features: names of those that tell the regions apart, x_u; the paper takes the user's.
        None is all.
      base_features: names of those that the regressions see, x_b; the paper takes the ad's. None
        is all. Where both are all, the weights of an id for both lie together: one gather.
      l1, l2: penalties of all weights but biases.
      l2_embedding_rows: which rows of its tables they hold back: "all" reads and moves them in each
        step; of "batch", the rows in use alone, so that a table's gradient stays sparse.
      task: "binary" or "regression", which has no sigmoid.
      backend: of all layers. seed: of initial weights.

    Defaults: regions=12, l1=0.0, l2=0.0, l2_embedding_rows="all", task="binary".

    Returns: keras.Model from {feature name: values} to [B, 1] float32.

    Raises: ValueError for contradicting features, or a name that none of them has.

    Source: Gai et al., Learning Piece-wise Linear Models, arXiv 2017, eq. 2 and section 2.2.

    Example:
      >>> from recops.features import SparseFeature
      >>> LSPLM([SparseFeature("user", 9), SparseFeature("item", 19)], regions=4).output_shape
      (None, 1)
    """
    parts = Parts(
        "LSPLM",
        features,
        task=task,
        seed=seed,
        backend=backend,
        l2_embedding_rows=l2_embedding_rows,
    )
    names = [feature.name for feature in parts.features]

    def first_order(wanted: Sequence[str] | None, units: int, name: str) -> Any:
        strangers = sorted(set(wanted or ()) - set(names))
        if strangers:
            raise ValueError(
                f"LSPLM: {name} features must be among {', '.join(names)}, got {strangers[0]!r}"
            )
        chosen = [f for f in parts.features if wanted is None or f.name in wanted]
        layer = Linear(
            chosen,
            l1=l1,
            l2=l2,
            kernel_initializer=parts.glorot(),
            units=units,
            regularized_rows=parts.l2_embedding_rows,
            # From zeros all regions would be alike, and stay so.
            embeddings_initializer=keras.initializers.RandomNormal(stddev=0.1, seed=parts.seed()),
            backend=backend,
            name=name,
            dtype="float32",
        )
        return layer({feature.name: parts.inputs[feature.name] for feature in chosen})

    if region_features is None and base_features is None:
        logits = first_order(None, 2 * regions, "all")
    else:
        logits = join(
            first_order(region_features, regions, "region"),
            first_order(base_features, regions, "base"),
        )
    mixed = RegionMixture(task, backend=backend, name="output", dtype="float32")(logits)
    return assembled(FeatureModel, parts.inputs, mixed, parts.name)
