"""Keras layers over `recops.ops`: weights, config and mask, and one call into an op each."""

from recops.layers.attention import MultiHeadAttention
from recops.layers.behavior import BehaviorTransformer, RecencyEncoding
from recops.layers.bilinear import BilinearInteraction, OuterProduct
from recops.layers.bilstm import BiLSTM
from recops.layers.cin import CIN
from recops.layers.cross import Cross
from recops.layers.dense import Dense
from recops.layers.dynamic_gru import DynamicGRU
from recops.layers.embedding import EmbeddingBag, FusedEmbedding
from recops.layers.interacting import InteractingLayer, NumberEmbedding
from recops.layers.interest import InterestEvolution, InterestExtractor
from recops.layers.linear import Linear, WideCrosses
from recops.layers.lsplm import LSPLM, RegionMixture
from recops.layers.mlp import MLP, Dice
from recops.layers.padding import PaddingMask
from recops.layers.pairwise import FFM, FM, BiInteraction, InnerProduct, PairwiseHadamard
from recops.layers.pooling import AttentionalPooling
from recops.layers.recurrent import GRU
from recops.layers.regularization import BatchAwareL2
from recops.layers.sampled_softmax import SampledSoftmax
from recops.layers.senet import SENET
from recops.layers.session import BiasEncoding, SessionExtractor
from recops.layers.session_interest import SessionInterest
from recops.layers.target_attention import TargetAttention
from recops.layers.transformer import PositionalEncoding, TransformerDecoder, TransformerEncoder

__all__ = [
    "CIN",
    "FFM",
    "FM",
    "GRU",
    "LSPLM",
    "MLP",
    "SENET",
    "AttentionalPooling",
    "BatchAwareL2",
    "BehaviorTransformer",
    "BiInteraction",
    "BiLSTM",
    "BiasEncoding",
    "BilinearInteraction",
    "Cross",
    "Dense",
    "Dice",
    "DynamicGRU",
    "EmbeddingBag",
    "FusedEmbedding",
    "InnerProduct",
    "InteractingLayer",
    "InterestEvolution",
    "InterestExtractor",
    "Linear",
    "MultiHeadAttention",
    "NumberEmbedding",
    "OuterProduct",
    "PaddingMask",
    "PairwiseHadamard",
    "PositionalEncoding",
    "RecencyEncoding",
    "RegionMixture",
    "SampledSoftmax",
    "SessionExtractor",
    "SessionInterest",
    "TargetAttention",
    "TransformerDecoder",
    "TransformerEncoder",
    "WideCrosses",
]
