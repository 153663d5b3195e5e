"""Models from the papers, each a function of features and options that returns a keras.Model.

`GBDTLR` is none: it is an estimator of scikit-learn, which is imported when it is first asked for.
"""

from __future__ import annotations

from typing import Any

from recops.models.afm import AFM
from recops.models.autoint import AutoInt
from recops.models.bst import BST
from recops.models.catalogue import CATALOGUE, ESTIMATORS, Entry
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

__all__ = [
    "AFM",
    "BST",
    "CATALOGUE",
    "DCN",
    "DIEN",
    "DIN",
    "DSIN",
    "ESTIMATORS",
    "FFM",
    "FM",
    "GBDTLR",
    "LSPLM",
    "NFM",
    "PNN",
    "AutoInt",
    "DeepFM",
    "Entry",
    "FiBiNET",
    "NeuralCF",
    "Transformer",
    "WideDeep",
    "XDeepFM",
    "YoutubeDNNRanking",
    "YoutubeDNNRetrieval",
]


def __getattr__(name: str) -> Any:
    if name == "GBDTLR":
        from recops.models.gbdt_lr import GBDTLR

        return GBDTLR
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
