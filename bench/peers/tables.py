"""DeepFM's train step by the size of its tables, beside DeepCTR and PyTorch.

    python bench/peers/tables.py [IDS ...] [--seconds S]  # measure, then write the tables
    python bench/peers/tables.py --table                  # docs/peers.md and the picture alone

4096 rows of 26 fields of 1,000 or 100,000 ids (or those named) drawn uniformly, embeddings of width
16, hidden layers of 256, 128 and 64, float32, neither penalties nor dropout. Ours and DeepCTR's
(TensorFlow 2.21, Keras 3) with Adam, Adagrad and SGD, in a graph and under jit_compile; FuxiCTR's
with Adam, and a plain PyTorch model with SparseAdam, eager and by torch.compile. Each library steps
in a process of its own, with as many threads as ours, and all take turns, a step each. From a
million ids on, forms of other libraries come one after the other, each in turns with LazyAdam,
since together they would not fit in memory; Adam alone.

1,000 and 100,000 ids take about four minutes each (9 GB), a million about ten (14 GB). The rows are
kept in bench/results/peers.jsonl as soon as they are there.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import gc
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import process
import tensorflow as tf
from steps import BATCH, DIM, DOC, FIELDS, HIDDEN, PEER, ROWS, key

from recops import models, optimizers, profiling
from recops._core import compat
from recops.features import SparseFeature, to_config
from recops.profiling import op_bench
from recops.version import __version__

sys.path.append(str(Path(__file__).resolve().parents[1]))
import steps_by_rows

BEGIN, END = "<!-- peers-by-rows -->", "<!-- /peers-by-rows -->"
OURS, FUXICTR, PYTORCH = "recops", "FuxiCTR", "PyTorch"
IDS = (1_000, 100_000)
# From here on one form of another library at a time.
LARGE = 1_000_000
# DeepCTR and FuxiCTR have a first order besides, one number an id: a sixteenth of the embeddings.
_SAME_SIZE = 0.08
keras = compat.keras
RULES: dict[str, Callable[[float], Any]] = {
    "lazy_adam": optimizers.LazyAdam,
    "adam": keras.optimizers.Adam,
    "lazy_adagrad": optimizers.LazyAdagrad,
    "adagrad": keras.optimizers.Adagrad,
    "sgd": keras.optimizers.SGD,
}
Step = Callable[[], Any]


@dataclass(frozen=True)
class Form:
    """What is timed: whose, with which optimizer, and how it is compiled."""

    side: str
    optimizer: str
    compiled: str


@dataclass(frozen=True)
class Library:
    """Another library: where it is installed, what steps it, and what it is asked for."""

    python: Path
    script: str
    asked: dict[str, Any]
    forms: dict[Form, Any]


def libraries() -> dict[str, Library]:
    """All of them, by the name of their side."""
    deep = {"dnn_hidden_units": HIDDEN, "l2_reg_embedding": 0, "l2_reg_linear": 0}
    deepctr = {
        Form(PEER, rule.lower(), compiled): (rule, compiled == "jit")
        for rule in ("Adam", "Adagrad", "SGD")
        for compiled in ("graph", "jit")
    }
    found = {
        PEER: Library(
            process.DEEPCTR, "step_deepctr.py", {"model": "DeepFM", "options": deep}, deepctr
        )
    }
    for side, model, optimizer in (
        (FUXICTR, "fuxictr", "adam"),
        (PYTORCH, "sparse", "sparse_adam"),
    ):
        forms = {
            Form(side, optimizer, compiled): compiled == "compile"
            for compiled in ("eager", "compile")
        }
        asked = {"model": model, "hidden": HIDDEN, "threads": profiling.threads()}
        found[side] = Library(process.FUXICTR, "step_torch.py", asked, forms)
    return found


def batch(ids: int) -> tuple[list[SparseFeature], dict[str, np.ndarray], np.ndarray]:
    """Features, inputs and labels."""
    rng = np.random.default_rng(0)
    features = [SparseFeature(f"c{i}", ids, DIM) for i in range(FIELDS)]
    inputs = {f.name: rng.integers(1, ids + 1, BATCH).astype("int32") for f in features}
    return features, inputs, rng.integers(0, 2, (BATCH, 1)).astype("float32")


def groups(ids: int) -> list[list[Form]]:
    """The forms that take turns at a size."""
    theirs = [form for library in libraries().values() for form in library.forms]
    lazy = [Form(OURS, "lazy_adam", compiled) for compiled in ("graph", "jit")]
    if ids >= LARGE:
        return [[*lazy, form] for form in theirs if form.optimizer in ("adam", "sparse_adam")]
    ours = [Form(OURS, rule, compiled) for rule in RULES for compiled in ("graph", "jit")]
    return [[*ours, *theirs]]


def own(form: Form, ids: int) -> tuple[Step, dict[str, Any]]:
    """A step of ours, and what there is to say of it."""
    features, inputs, labels = batch(ids)
    model = models.DeepFM(features, hidden_units=HIDDEN, seed=0)
    rule = RULES[form.optimizer](1e-3)
    model.compile(rule, "binary_crossentropy", jit_compile=form.compiled == "jit")
    taken, target = {n: tf.constant(v) for n, v in inputs.items()}, tf.constant(labels)
    said = {"library": __version__, "tf": tf.__version__, "keras": compat.KERAS_VERSION}
    said["parameters"] = model.count_params()
    return lambda: model.train_on_batch(taken, target), said


def measure(ids: int, seconds: float) -> Iterator[list[dict[str, Any]]]:
    """The rows of each group of forms."""
    known = libraries()
    features, inputs, labels = batch(ids)
    for group in groups(ids):
        steps: dict[Form, Step] = {}
        said: dict[Form, dict[str, Any]] = {}
        with contextlib.ExitStack() as stack:
            for form in group:
                if form.side == OURS:
                    print(f"{ids:,} ids: {form}", flush=True)
                    steps[form], said[form] = own(form, ids)
            for side, library in known.items():
                wanted = {f: library.forms[f] for f in group if f.side == side}
                if wanted:
                    print(f"{ids:,} ids: {', '.join(map(str, wanted))}", flush=True)
                    asked = {**library.asked, "features": to_config(features)}
                    asked["forms"] = list(wanted.values())
                    made = process.stepping(
                        side, library.python, library.script, asked, inputs, labels
                    )
                    try:
                        step, tells = stack.enter_context(made)
                        for place in range(len(wanted)):
                            step(place)
                    except RuntimeError as error:
                        # The others are worth timing all the same.
                        print(f"left out: {error}", file=sys.stderr, flush=True)
                        continue
                    for place, form in enumerate(wanted):
                        steps[form], said[form] = functools.partial(step, place), tells
            _check_sizes(ids, said)
            timed = profiling.interleave(steps, seconds=seconds)
        yield [
            {
                "model": "DeepFM",
                "side": form.side,
                "ids": ids,
                "optimizer": form.optimizer,
                "compiled": form.compiled,
                "rows": BATCH,
                "median_ms": timed[form].median_ms,
                "p20_ms": timed[form].p20_ms,
                "p80_ms": timed[form].p80_ms,
                "rounds": timed[form].rounds,
                "device": op_bench.device(),
                "threads": profiling.threads(),
                **said[form],
            }
            for form in steps
        ]
        del steps
        keras.backend.clear_session()
        gc.collect()


def _check_sizes(ids: int, said: dict[Form, dict[str, Any]]) -> None:
    size = next(tells["parameters"] for form, tells in said.items() if form.side == OURS)
    for form, tells in said.items():
        if abs(tells["parameters"] - size) > _SAME_SIZE * size:
            raise ValueError(
                f"DeepFM of {ids} ids: {size} parameters here and {tells['parameters']} in "
                f"{form.side} are not one model"
            )


# Of a row of the table: its name, ours, and what each library has for it.
_LINES = (
    ("Adam", "lazy_adam", "adam", {PEER: "adam", FUXICTR: "adam", PYTORCH: "sparse_adam"}),
    ("Adagrad", "lazy_adagrad", "adagrad", {PEER: "adagrad"}),
    ("SGD", "sgd", "", {PEER: "sgd"}),
)


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """A line a size and optimizer: graph and jit of ours and DeepCTR's, eager and compiled else."""
    rows = steps_by_rows.deepfm(rows)
    if not rows:
        return steps_by_rows.MISSING
    sides = (PEER, FUXICTR, PYTORCH)
    head = [
        "ids a field", "optimizer", "recops", "recops with Keras's optimizer", PEER, FUXICTR,
        "PyTorch, `SparseAdam`", f"speed-up over {PEER}",
    ]  # fmt: skip
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for ids in sorted({row["ids"] for row in rows}):
        for name, lazy, dense, theirs in _LINES:
            cells = [_of(rows, OURS, ids, lazy), _of(rows, OURS, ids, dense)]
            cells += [_of(rows, side, ids, theirs.get(side, "")) for side in sides]
            mine, peer = _line(rows, OURS, ids, lazy), _line(rows, PEER, ids, theirs[PEER])
            if not (mine and peer):
                continue
            gain = min(peer.values()) / min(mine.values())
            lines.append(f"| {ids:,} | {name} | {' | '.join(cells)} | {gain:.1f}x |")
    lines += ["", _caption(rows)]
    return "\n".join(lines)


def _line(rows: Sequence[dict[str, Any]], side: str, ids: int, rule: str) -> dict[str, float]:
    wanted = (side, ids, rule)
    return {
        row["compiled"]: row["median_ms"]
        for row in rows
        if (row["side"], row["ids"], row["optimizer"]) == wanted
    }


def _of(rows: Sequence[dict[str, Any]], side: str, ids: int, rule: str) -> str:
    return " / ".join(f"{ms:.1f}" for ms in _line(rows, side, ids, rule).values())


def _caption(rows: Sequence[dict[str, Any]]) -> str:
    kept = {row["side"]: row for row in rows}
    ours, parts = kept[OURS], []
    parts.append(f"recops {ours['library']} on TensorFlow {ours['tf']} and Keras {ours['keras']}")
    if PEER in kept:
        parts.append(f"{PEER} on TensorFlow {kept[PEER]['tf']} and Keras {kept[PEER]['keras']}")
    if FUXICTR in kept:
        parts.append(f"FuxiCTR {kept[FUXICTR]['library']} on PyTorch {kept[FUXICTR]['torch']}")
    return (
        f"Milliseconds a step: graph / jit, of PyTorch eager / `torch.compile`. {ours['device']}, "
        f"{ours['threads']} threads; {', '.join(parts)}. The speed-up is that of the faster forms."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, keep the rows, write the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ids", nargs="*", type=int, help="of each field; 1000 100000 by default")
    parser.add_argument("--table", action="store_true", help="only write what shows the rows")
    parser.add_argument("--seconds", type=float, default=20, help="of rounds in turns (20)")
    options = parser.parse_args(arguments)
    wanted = [] if options.table else options.ids or IDS
    missing = [
        side for side, library in libraries().items() if wanted and not library.python.exists()
    ]
    if missing:
        print(f"{', '.join(missing)}: not installed; `make peers` installs it", file=sys.stderr)
        return 2
    rows = {key(row): row for row in steps_by_rows.read(ROWS)}
    for ids in wanted:
        for found in measure(ids, options.seconds):
            for row in found:
                rows[key(row)] = row
                print(
                    f"{ids:,} {row['side']} {row['optimizer']} {row['compiled']}: "
                    f"{row['median_ms']:.1f} ms ({row['p20_ms']:.1f} to {row['p80_ms']:.1f})",
                    flush=True,
                )
            ROWS.write_text("".join(json.dumps(row) + "\n" for row in rows.values()))
    made = summary(list(rows.values()))
    print(made)
    steps_by_rows.put(DOC, BEGIN, END, made)
    steps_by_rows.write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
