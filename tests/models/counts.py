"""How many parameters each model has on the planted features, counted from its formula."""

from __future__ import annotations

# 39 rows of 4 fields of width 4 and 2 numbers: x has 18 columns, the linear part 42 weights.
ROWS, EMBEDDINGS, LINEAR, X = 39, 39 * 4, 39 + 2 + 1, 18
HIDDEN = {n: n * 16 + 16 + 16 * 8 + 8 for n in (6, X, 22, 34, 2 * 6 * 4 + 2)}
# Models of histories have no user. Of 2 sessions of 3 steps: positions, attention, feed-forward and
# two normalizations; an LSTM; a target attention of one hidden layer. And a Transformer's block.
STEPS = 26 * 4
EXTRACTOR = (2 + 3 + 4) + 4 * 4 * 4 + (4 * 16 + 16 + 16 * 4 + 4) + 2 * 8
LSTM, UNIT = 2 * 4 * 16 + 16, 16 * 8 + 8 + 8
BLOCK = 4 * (4 * 4 + 4) + (4 * 8 + 8 + 8 * 4 + 4) + 2 * 8
COUNTS = [
    ("FM", {}, LINEAR + EMBEDDINGS),
    ("FM", {"embedding_dim": 7}, LINEAR + ROWS * 7),
    ("FFM", {}, LINEAR + ROWS * 4 * 3),
    ("LSPLM", {}, LINEAR * 2 * 4),
    ("NeuralCF", {"mf_dim": 3}, 2 * 26 * 3 + 6 * 16 + 16 + 16 * 8 + 8 + 3 + 8 + 1),
    ("WideDeep", {"crosses": ()}, LINEAR + EMBEDDINGS + HIDDEN[X] + 8),
    ("WideDeep", {}, LINEAR + 13 * 13 + EMBEDDINGS + HIDDEN[X] + 8),
    ("WideDeep", {"wide": "fm", "crosses": ()}, LINEAR + 2 * EMBEDDINGS + HIDDEN[X] + 8),
    ("DCN", {}, EMBEDDINGS + 2 * 2 * X + HIDDEN[X] + X + 8 + 1),
    ("DCN", {"parameterization": "matrix"}, EMBEDDINGS + 2 * X * (X + 1) + HIDDEN[X] + X + 8 + 1),
    ("DCN", {"hidden_units": ()}, EMBEDDINGS + 2 * 2 * X + X + 1),
    ("DeepFM", {}, EMBEDDINGS + X + HIDDEN[X] + 8 + 1),
    (
        "XDeepFM",
        {},
        LINEAR + EMBEDDINGS + 6 * 4 * 4 + 4 * 6 * 4 + 6 + 4 + HIDDEN[X] + 8,
    ),
    ("NFM", {}, LINEAR + EMBEDDINGS + 4 * 6 + HIDDEN[6] + 8),
    ("NFM", {"use_bn": False}, LINEAR + EMBEDDINGS + HIDDEN[6] + 8),
    ("AFM", {}, LINEAR + EMBEDDINGS + 4 * 8 + 2 * 8 + 4),
    ("AFM", {"pooling": "avg"}, LINEAR + EMBEDDINGS + 4),
    (
        "AFM",
        {"use_dnn": True, "hidden_units": [16, 8]},
        LINEAR + EMBEDDINGS + 4 * 8 + 2 * 8 + 4 * 6 + HIDDEN[6] + 8,
    ),
    ("PNN", {"product": "inner"}, EMBEDDINGS + 16 * 16 + 16 + 6 * 16 + 18 * 8 + 8 + 9),
    (
        "PNN",
        {"product": "inner", "pairs": "full"},
        EMBEDDINGS + 16 * 16 + 16 + 16 * 16 + 18 * 8 + 8 + 9,
    ),
    ("PNN", {"product": "outer"}, EMBEDDINGS + 16 * 16 + 16 + 16 * 16 + 18 * 8 + 8 + 9),
    ("PNN", {}, EMBEDDINGS + 16 * 16 + 16 + 6 * 16 + 16 * 16 + 18 * 8 + 8 + 9),
    *(
        (
            "FiBiNET",
            {"bilinear_type": kind},
            LINEAR + EMBEDDINGS + 2 * 4 + 2 * matrices * 16 + HIDDEN[50] + 8,
        )
        for kind, matrices in (("all", 1), ("each", 3), ("interaction", 6))
    ),
    (
        "FiBiNET",
        {"layer_norm": True, "use_linear": False, "reduction_ratio": 2},
        EMBEDDINGS + 2 * 8 + 2 * 6 * 16 + 2 * 8 + HIDDEN[50] + 8 + 1,
    ),
    ("AutoInt", {}, EMBEDDINGS + 2 * 4 + 4 * 4 * 8 + 4 * 8 * 8 + 6 * 8 + 1),
    (
        "AutoInt",
        {"use_res": False, "embed_numeric": False, "hidden_units": [16, 8]},
        EMBEDDINGS + 3 * 4 * 8 + 3 * 8 * 8 + 4 * 8 + 1 + HIDDEN[X] + 8,
    ),
    ("YoutubeDNNRanking", {}, EMBEDDINGS + HIDDEN[X] + 8 + 1),
    ("DSIN", {}, STEPS + EXTRACTOR + 2 * LSTM + 2 * UNIT + HIDDEN[3 * 4 + 2 * 4 + 2] + 8 + 1),
    (
        "DSIN",
        {"lstm_layers": 3, "use_layer_norm": False, "use_positional": None},
        STEPS + EXTRACTOR - 16 - 9 + 6 * LSTM + 2 * UNIT + HIDDEN[22] + 8 + 1,
    ),
    ("BST", {}, STEPS + 5 * 4 + BLOCK + HIDDEN[3 * 4 + 5 * 4 + 2] + 8 + 1),
    ("BST", {"pooling": "mean", "num_blocks": 2}, STEPS + 20 + 2 * BLOCK + HIDDEN[X] + 8 + 1),
]
