"""Models of other libraries on the splits of recops, each in its own environment and process.

A peer is what a script of bench/peers trains. It reads the splits from an .npz file and writes its
predictions of the test split into another; the figures are made here, by the code that judges the
models of recops. `make peers` makes the environments; a peer without one is left out.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recops import metrics
from recops.features import to_config
from recops.models import CATALOGUE
from recops.training import TRAINING, Settings, dataset, sized

ROOT = Path(__file__).resolve().parent
PARTS = ("train", "validation", "test")
# Hidden layers and penalties are those of the models of recops, whose settings for this data set
# were chosen; a peer's own defaults are for larger data.
HIDDEN = {"ranking": (128, 128), "sequence": (200, 80)}


@dataclass(frozen=True)
class Peer:
    """Another library.

    Args:
      name: of its column.
      script: in bench/peers.
      environment: a virtual environment beside the repository's own.
      models: names of recops -> those of the library.
    """

    name: str
    script: str
    environment: str
    models: dict[str, str]

    @property
    def python(self) -> Path:
        return ROOT.parent / self.environment / "bin" / "python"


PEERS = (
    Peer(
        "DeepCTR",
        "run_deepctr.py",
        ".venv-peers",
        {
            "WideDeep": "WDL",
            "DCN": "DCN",
            "DeepFM": "DeepFM",
            "XDeepFM": "xDeepFM",
            "NFM": "NFM",
            "AFM": "AFM",
            "PNN": "PNN",
            "FiBiNET": "FiBiNET",
            "AutoInt": "AutoInt",
        },
    ),
    # Its package has none of the models above.
    Peer("FuxiCTR", "run_fuxictr.py", ".venv-fuxictr", {"DIN": "DIN", "DIEN": "DIEN"}),
)


def installed() -> list[Peer]:
    """The peers whose environment is there."""
    return [peer for peer in PEERS if peer.python.exists()]


def train(peer: Peer, name: str, data: str, seed: int) -> dict[str, Any]:
    """Train a model of a peer on the task of recops's; test figures and what the peer reports."""
    task = CATALOGUE[name].task
    splits = dataset(data, task)
    settings = TRAINING[name]
    with tempfile.TemporaryDirectory(prefix="recops-peer-") as folder:
        path, out = Path(folder) / "splits.npz", Path(folder) / "out.npz"
        asked = {
            "model": peer.models[name],
            "seed": seed,
            "features": to_config(sized(splits, settings.embedding_dim)),
            **_asked(settings, task),
        }
        arrays: dict[str, Any] = {}
        for part in PARTS:
            split = getattr(splits, part)
            arrays |= {f"{part}/{key}": values for key, values in split.inputs.items()}
            arrays[f"{part}/labels"] = split.labels.ravel()
        np.savez(path, asked=np.array(json.dumps(asked)), **arrays)
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
        subprocess.run(
            [peer.python, ROOT / "peers" / peer.script, path, out], check=True, env=environment
        )
        with np.load(out) as found:
            predictions = found["predictions"].astype(np.float64)
            reported = json.loads(str(found["reported"]))
    labels, users = splits.test.labels, splits.test.groups
    figures = {
        "auc": metrics.auc(labels, predictions),
        "logloss": metrics.log_loss(labels, predictions),
        "gauc": metrics.gauc(labels, predictions, users),
    }
    return {"test": figures, **reported}


def _asked(settings: Settings, task: str) -> dict[str, Any]:
    options = settings.options
    return {
        "batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
        "patience": settings.patience,
        "epochs": 30,
        "l2_embedding": options.get("l2_embedding", 0.0),
        "dropout": options.get("dropout", 0.0),
        "hidden_units": list(options.get("hidden_units", HIDDEN[task])),
    }
