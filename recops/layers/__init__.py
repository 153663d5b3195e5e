"""Keras layers over `recops.ops`: weights, config and mask, and one call into an op each."""

from recops.layers.bilinear import BilinearInteraction, OuterProduct
from recops.layers.cross import Cross
from recops.layers.embedding import EmbeddingBag, FusedEmbedding
from recops.layers.linear import Linear, WideCrosses
from recops.layers.mlp import MLP, Dice
from recops.layers.pairwise import FFM, FM, BiInteraction, InnerProduct, PairwiseHadamard
from recops.layers.pooling import AttentionalPooling
from recops.layers.senet import SENET

__all__ = [
    "FFM",
    "FM",
    "MLP",
    "SENET",
    "AttentionalPooling",
    "BiInteraction",
    "BilinearInteraction",
    "Cross",
    "Dice",
    "EmbeddingBag",
    "FusedEmbedding",
    "InnerProduct",
    "Linear",
    "OuterProduct",
    "PairwiseHadamard",
    "WideCrosses",
]
