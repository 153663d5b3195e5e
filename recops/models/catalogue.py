"""The models by name, with their papers and the data that each needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from recops.features import Feature, SequenceFeature
from recops.losses import masked_crossentropy, weighted_binary_crossentropy
from recops.models.afm import AFM
from recops.models.autoint import AutoInt
from recops.models.bst import BST
from recops.models.dcn import DCN
from recops.models.deepfm import DeepFM
from recops.models.dien import DIEN
from recops.models.din import DIN
from recops.models.dsin import DSIN
from recops.models.ffm import FFM
from recops.models.fibinet import FiBiNET
from recops.models.fm import FM
from recops.models.lsplm import LSPLM
from recops.models.neuralcf import NeuralCF
from recops.models.nfm import NFM
from recops.models.pnn import PNN
from recops.models.transformer import Transformer
from recops.models.wide_deep import WideDeep
from recops.models.xdeepfm import XDeepFM
from recops.models.youtubednn_ranking import YoutubeDNNRanking
from recops.models.youtubednn_retrieval import YoutubeDNNRetrieval

_ANY = "any features"
_FIELDS = "two or more sparse or sequence features of one embedding_dim; dense ones optional"
_HISTORIES = (
    "a history (SequenceFeature with target), its target and any others of one embedding_dim; "
    "dense ones optional"
)


@dataclass(frozen=True)
class Entry:
    """A model that can be trained.

    Args:
      name: of the builder in `recops.models`.
      build: (features, **options) -> keras.Model; of an estimator, (**options) -> the estimator.
      paper: where it comes from.
      needs: the features that it takes, in words.
      task: task of the data sets of `recops.data` that has them.
      loss: for `compile`, where the task has none of its own.

    Defaults: task="ranking", loss="binary_crossentropy".

    Example:
      >>> CATALOGUE["DIN"].task
      'sequence'
    """

    name: str
    build: Callable[..., Any]
    paper: str
    needs: str
    task: str = "ranking"
    loss: Any = "binary_crossentropy"


def _transformer(features: Sequence[Feature], **options: Any) -> Transformer:
    """A Transformer of the features "source" and "target", as wide as their embeddings."""
    found = {f.name: f for f in features if isinstance(f, SequenceFeature)}
    if missing := sorted({"source", "target"} - set(found)):
        raise ValueError(
            f"Transformer: expected sequence features 'source' and 'target', got no {missing[0]!r}"
        )
    source, target = found["source"], found["target"]
    sizes = {
        "d_model": source.embedding_dim,
        "max_length": max(source.max_length, target.max_length),
    }
    options = {"name": "Transformer", **sizes, **options}
    return Transformer(source.vocabulary_size, target.vocabulary_size, **options)


CATALOGUE: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry("FM", FM, "Rendle, Factorization Machines, ICDM 2010", _FIELDS),
        Entry(
            "FFM",
            FFM,
            "Juan et al., Field-aware Factorization Machines for CTR Prediction, RecSys 2016",
            "two or more sparse or sequence features; dense ones optional",
        ),
        Entry("LSPLM", LSPLM, "Gai et al., Piece-wise Linear Models, arXiv 2017", _ANY),
        Entry(
            "NeuralCF",
            NeuralCF,
            "He et al., Neural Collaborative Filtering, WWW 2017",
            "two sparse features, user and item",
            "leave_one_out",
        ),
        Entry(
            "WideDeep",
            WideDeep,
            "Cheng et al., Wide & Deep Learning for Recommender Systems, DLRS 2016",
            _ANY,
        ),
        Entry(
            "DCN",
            DCN,
            "Wang et al., Deep & Cross Network, ADKDD 2017; DCN V2, WWW 2021",
            _ANY,
        ),
        Entry("DeepFM", DeepFM, "Guo et al., DeepFM, IJCAI 2017", _FIELDS),
        Entry("XDeepFM", XDeepFM, "Lian et al., xDeepFM, KDD 2018", _FIELDS),
        Entry("NFM", NFM, "He & Chua, Neural Factorization Machines, SIGIR 2017", _FIELDS),
        Entry("AFM", AFM, "Xiao et al., Attentional Factorization Machines, IJCAI 2017", _FIELDS),
        Entry("PNN", PNN, "Qu et al., Product-based Neural Networks, ICDM 2016", _FIELDS),
        Entry("FiBiNET", FiBiNET, "Huang et al., FiBiNET, RecSys 2019", _FIELDS),
        Entry("AutoInt", AutoInt, "Song et al., AutoInt, CIKM 2019", _FIELDS),
        Entry(
            "YoutubeDNNRanking",
            YoutubeDNNRanking,
            "Covington et al., Deep Neural Networks for YouTube Recommendations, RecSys 2016",
            f"{_ANY}; numbers as percentiles; labels are watch time, of which a click is one unit",
            loss=weighted_binary_crossentropy,
        ),
        Entry("DIN", DIN, "Zhou et al., Deep Interest Network, KDD 2018", _HISTORIES, "sequence"),
        Entry(
            "DIEN",
            DIEN,
            "Zhou et al., Deep Interest Evolution Network, AAAI 2019",
            f"{_HISTORIES}; sampled negatives of each history for the auxiliary loss",
            "sequence",
        ),
        Entry(
            "DSIN",
            DSIN,
            "Feng et al., Deep Session Interest Network, IJCAI 2019",
            "a history cut into sessions and its sparse feature; any others of one embedding_dim",
            "sequence",
        ),
        Entry(
            "BST",
            BST,
            "Chen et al., Behavior Sequence Transformer, DLP-KDD 2019",
            _HISTORIES,
            "sequence",
        ),
        Entry(
            "YoutubeDNNRetrieval",
            YoutubeDNNRetrieval,
            "Covington et al., Deep Neural Networks for YouTube Recommendations, RecSys 2016",
            "the sparse feature of the item; the user's, among them a history of items",
            "retrieval",
        ),
        Entry(
            "Transformer",
            _transformer,
            "Vaswani et al., Attention Is All You Need, NeurIPS 2017",
            "two sequences, source and target, whose largest id starts a target",
            "next_click",
            masked_crossentropy(label_smoothing=0.1),
        ),
    )
}


def _gbdt_lr(**options: Any) -> Any:
    # scikit-learn is imported by those who need it.
    from recops.models.gbdt_lr import GBDTLR

    return GBDTLR(**options)


# Fitted in one go, without epochs and steps.
ESTIMATORS: dict[str, Entry] = {
    "GBDTLR": Entry(
        "GBDTLR",
        _gbdt_lr,
        "He et al., Practical Lessons from Predicting Clicks on Ads at Facebook, ADKDD 2014",
        f"{_ANY}; scikit-learn, and LightGBM for speed: recops[gbdt]",
    )
}
