"""The tables that kept accuracy rows make: for docs/accuracy.md, for the README, and as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from recops.models import CATALOGUE, ESTIMATORS
from recops.training import TRAINING

CLICKS = {"auc": "test AUC", "logloss": "log loss", "gauc": "GAUC"}
FOUND = {"hit_rate@10": "HR@10", "ndcg@10": "NDCG@10"}
MOVIELENS = "movielens-100k"

Row = dict[str, Any]


def groups(rows: Iterable[Row], data: str, optimizer: str | None = None) -> list[dict[str, Any]]:
    """Mean and standard deviation of each figure on a data set, a model (of a peer) a group.

    Of the runs by that optimizer, or of None those by each model's own.
    """
    runs: dict[tuple[str, str, str | None], list[Row]] = {}
    for row in rows:
        # The first lines were written when there was one task and one data set.
        if (row.get("data", MOVIELENS), row.get("optimizer")) == (data, optimizer):
            key = row["model"], row.get("task", "ranking"), row.get("peer")
            runs.setdefault(key, []).append(row)
    return [
        {
            "model": name,
            "task": task,
            "peer": peer,
            "data": data,
            "runs": len(found),
            "test": _over(row["test"] for row in found),
            "baseline": _over(row["baseline"] for row in found if row.get("baseline")),
            **{
                what: statistics.median(values) if values else None
                for what in ("seconds_per_epoch", "parameters")
                for values in [[row[what] for row in found if what in row]]
            },
        }
        for (name, task, peer), found in runs.items()
    ]


def _over(runs: Iterable[dict[str, float]]) -> dict[str, dict[str, float | None]]:
    """Mean and standard deviation (None of one run) of each figure that all runs have."""
    tests = list(runs)
    shared = [name for name in (tests[0] if tests else ()) if all(name in t for t in tests)]
    return {
        name: {
            "mean": statistics.mean(t[name] for t in tests),
            "std": statistics.stdev(t[name] for t in tests) if len(tests) > 1 else None,
        }
        for name in shared
    }


def said(group: dict[str, Any], figure: str, of: str = "test") -> str:
    """A figure as mean ± standard deviation; a dash where there is none."""
    found = group[of].get(figure)
    if found is None:
        return "–"
    spread = "" if found["std"] is None else f" ± {found['std']:.4f}"
    return f"{found['mean']:.4f}{spread}"


def table(rows: Sequence[Row], data: str = MOVIELENS) -> str:
    """The figures on a data set, a model a line, best first; by click, then by list.

    A peer that has rows has a column.
    """
    made = groups(rows, data)
    own = [group for group in made if group["peer"] is None]
    peers = {(g["peer"], g["model"], g["task"]): g for g in made if g["peer"]}
    names = sorted({peer for peer, _, _ in peers})
    parts = []
    clicks = [group for group in own if "auc" in group["test"]]
    if clicks:
        more: list[tuple[str, Callable[[dict[str, Any]], str]]] = [
            (f"{peer} AUC", lambda g, peer=peer: _of(peers.get((peer, g["model"], g["task"]))))
            for peer in names
        ]
        parts.append(_lines(clicks, CLICKS, more))
    found = [group for group in own if "hit_rate@10" in group["test"]]
    if found:
        popular = [
            (f"popularity {title}", lambda g, name=name: said(g, name, "baseline"))
            for name, title in FOUND.items()
        ]
        parts.append(_lines(found, FOUND, popular))
    return "\n\n".join(parts)


def _of(peer: dict[str, Any] | None) -> str:
    return "–" if peer is None else said(peer, "auc")


def _lines(
    made: list[dict[str, Any]],
    figures: dict[str, str],
    more: Sequence[tuple[str, Callable[[dict[str, Any]], str]]],
) -> str:
    first = next(iter(figures))
    titles = ["model", "task", "runs", *figures.values(), *(title for title, _ in more)]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for group in sorted(made, key=lambda g: -g["test"][first]["mean"]):
        cells = [group["model"], group["task"], str(group["runs"])]
        cells += [said(group, figure) for figure in figures]
        cells += [cell(group) for _, cell in more]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def optimizers(rows: Sequence[Row], data: str = MOVIELENS) -> str:
    """The models that were also trained by another optimizer than theirs: each beside the other."""
    lines = [
        "| model | optimizer | runs | test AUC or HR@10 | log loss or NDCG@10 |",
        "|---|---|---|---|---|",
    ]
    own = {g["model"]: g for g in groups(rows, data) if g["peer"] is None}
    others = [
        (name, group)
        for name in sorted({row["optimizer"] for row in rows if row.get("optimizer")})
        for group in groups(rows, data, name)
    ]
    for model in dict.fromkeys(group["model"] for _, group in others):
        beside = [(TRAINING[model].optimizer, own[model])] if model in own else []
        for name, group in (*beside, *(other for other in others if other[1]["model"] == model)):
            figures = CLICKS if "auc" in group["test"] else FOUND
            cells = [said(group, figure) for figure in list(figures)[:2]]
            lines.append(f"| {model} | {name} | {group['runs']} | {' | '.join(cells)} |")
    return "\n".join(lines) if others else ""


def readme(rows: Sequence[Row]) -> str:
    """Every model that `recops train` knows: paper, accuracy, seconds an epoch, parameters."""
    known = {g["model"]: g for g in groups(rows, MOVIELENS) if g["peer"] is None}
    lines = [
        "| model | paper | test AUC or HR@10 | s/epoch | parameters |",
        "|---|---|---|---|---|",
    ]
    for entry in (*CATALOGUE.values(), *ESTIMATORS.values()):
        group = known.get(entry.name)
        accuracy = seconds = parameters = "–"
        if group is not None:
            clicks = "auc" in group["test"]
            accuracy = said(group, "auc") if clicks else f"HR@10 {said(group, 'hit_rate@10')}"
            if group["seconds_per_epoch"] is not None:
                seconds = f"{group['seconds_per_epoch']:.1f}"
            if group["parameters"] is not None:
                parameters = f"{group['parameters']:,.0f}"
        lines.append(f"| {entry.name} | {entry.paper} | {accuracy} | {seconds} | {parameters} |")
    return "\n".join(lines)
