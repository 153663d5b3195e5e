"""The strategies that a training can name."""

from __future__ import annotations

import tensorflow as tf

from recops._core import checks
from recops.training import cluster
from recops.training.team import Team

STRATEGIES = ("none", "mirrored", "multi_worker")


def team_of(strategy: str, wait: float = 600.0) -> Team:
    """The replicas of a strategy by its name.

    Args:
      strategy: "none"; "mirrored", the devices of this process; "multi_worker", those of all
        processes that `TF_CONFIG` names.
      wait: seconds to wait for the other processes.

    Raises: ValueError for another name, a `TF_CONFIG` that does not fit, a port that is taken, or a
    process that does not come.
    """
    checks.choice("train", "strategy", strategy, STRATEGIES)
    if strategy == "none":
        return Team()
    if strategy == "mirrored":
        return Team.under(tf.distribute.MirroredStrategy())
    found = cluster.from_environment()
    found.check_jobs(
        strategy, ("worker",) if "chief" not in found.addresses else (), ("chief", "worker")
    )
    found.wait(wait)
    return Team.under(tf.distribute.MultiWorkerMirroredStrategy())
