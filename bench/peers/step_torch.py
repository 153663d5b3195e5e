"""Take train steps of DeepFM in PyTorch, one for each line that comes in: step_torch.py BATCH.npz

Run by bench/peers/tables.py with the Python of .venv-fuxictr. Answers as step_deepctr.py does.

"fuxictr" is FuxiCTR's DeepFM, put together from its own blocks as its repository does (the package
has no DeepFM), with its own train step: dense gradients, their norm clipped, Adam over everything.
"sparse" is what a PyTorch user writes for large tables: the model of recops, one
`nn.Embedding(sparse=True)` for all fields with `SparseAdam`, Adam for the rest; what is compiled is
the rest.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import fuxictr
import numpy as np
import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers import FactorizationMachine, FeatureEmbedding, MLP_Block
from fuxictr.pytorch.models import BaseModel
from run_fuxictr import LABEL, column
from torch import nn

Step = Callable[[], torch.Tensor]


class FuxiDeepFM(BaseModel):
    """A factorization machine with a first order of its own, and hidden layers."""

    def __init__(self, known: FeatureMap, dim: int, hidden: list[int]) -> None:
        super().__init__(known, metrics=["AUC"], model_root="", verbose=0)
        self.embedding_layer = FeatureEmbedding(known, dim)
        self.fm = FactorizationMachine(known)
        self.mlp = MLP_Block(input_dim=known.sum_emb_out_dim(), output_dim=1, hidden_units=hidden)
        self.compile("adam", "binary_crossentropy", 1e-3)
        self.reset_parameters()
        # As its `fit` sets it.
        self._max_gradient_norm = 10.0

    def forward(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        read = self.get_inputs(inputs)
        embedded = self.embedding_layer(read)
        logit = self.fm(read, embedded) + self.mlp(embedded.flatten(start_dim=1))
        return {"y_pred": self.output_activation(logit)}


class OnEmbeddings(nn.Module):
    """The model of recops from the embeddings of all fields on."""

    def __init__(self, fields: int, dim: int, hidden: list[int]) -> None:
        super().__init__()
        widths = [fields * dim, *hidden]
        layers: list[nn.Module] = []
        for given, units in zip(widths, hidden):
            layers += [nn.Linear(given, units), nn.ReLU()]
        self.deep = nn.Sequential(*layers, nn.Linear(widths[-1], 1))
        self.first = nn.Linear(widths[0], 1, bias=False)

    def forward(self, embedded: torch.Tensor) -> torch.Tensor:
        flat = embedded.flatten(start_dim=1)
        squares = embedded.sum(dim=1).square() - embedded.square().sum(dim=1)
        return self.first(flat) + 0.5 * squares.sum(dim=1, keepdim=True) + self.deep(flat)


def fuxictr_step(
    asked: dict[str, Any], inputs: dict[str, torch.Tensor], labels: torch.Tensor, compiled: bool
) -> tuple[Step, nn.Module]:
    known = FeatureMap("fields", "")
    known.labels = [LABEL]
    for feature in asked["features"]:
        known.features[feature["name"]] = column(feature, "")
    known.num_fields = known.get_num_fields()
    known.default_emb_dim = dim = asked["features"][0]["embedding_dim"]
    model = FuxiDeepFM(known, dim, asked["hidden"])
    model.train()
    if compiled:
        # `compile` of its models is something else.
        model.forward = torch.compile(model.forward)
    batch = {**inputs, LABEL: labels}
    return lambda: model.train_step(batch), model


def sparse_step(
    asked: dict[str, Any], inputs: dict[str, torch.Tensor], labels: torch.Tensor, compiled: bool
) -> tuple[Step, nn.Module]:
    sizes = [feature["vocabulary_size"] + 1 for feature in asked["features"]]
    dim = asked["features"][0]["embedding_dim"]
    starts = torch.from_numpy(np.cumsum([0, *sizes[:-1]]))
    table = nn.Embedding(sum(sizes), dim, sparse=True)
    nn.init.uniform_(table.weight, -0.05, 0.05)
    rest = OnEmbeddings(len(sizes), dim, asked["hidden"])
    # The lookup stays outside: the compiler knows no storage of a sparse gradient.
    forward = torch.compile(rest) if compiled else rest
    rules = (
        torch.optim.SparseAdam(table.parameters(), lr=1e-3),
        torch.optim.Adam(rest.parameters(), lr=1e-3),
    )
    names = [feature["name"] for feature in asked["features"]]

    def step() -> torch.Tensor:
        for rule in rules:
            rule.zero_grad()
        ids = torch.stack([inputs[name] for name in names], dim=1) + starts
        loss = nn.functional.binary_cross_entropy_with_logits(forward(table(ids)), labels)
        loss.backward()
        for rule in rules:
            rule.step()
        return loss

    return step, nn.ModuleList([table, rest])


STEPS = {"fuxictr": fuxictr_step, "sparse": sparse_step}


def main(source: str) -> None:
    """Build, then step until the input ends."""
    with np.load(source) as found:
        arrays = dict(found)
    asked = json.loads(str(arrays.pop("asked")))
    torch.set_num_threads(asked["threads"])
    labels = torch.from_numpy(arrays.pop("labels"))
    inputs = {name: torch.from_numpy(values.astype("int64")) for name, values in arrays.items()}
    built = [STEPS[asked["model"]](asked, inputs, labels, compiled) for compiled in asked["forms"]]
    say(
        parameters=sum(weight.numel() for weight in built[0][1].parameters()),
        library=fuxictr.__version__ if asked["model"] == "fuxictr" else torch.__version__,
        torch=torch.__version__,
    )
    for line in sys.stdin:
        say(loss=float(built[int(line)][0]().detach()))


def say(**answer: object) -> None:
    """One answer, at once."""
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
