"""The demo's report: one HTML page with its pictures inside, which needs no network."""

from __future__ import annotations

import html
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import recops
from recops.data import Dataset
from recops.profiling.op_bench import Row

SCORES = ("auc", "logloss", "gauc")
HEADER = (
    "model", "test AUC", "log loss", "GAUC", "table rows", "parameters", "samples/s", "ms/step",
)  # fmt: skip
COLORS = ("#0b6e8a", "#d9822b", "#8a8f98")

# Of a model: by form, one list of epochs a seed.
Curves = Mapping[str, Sequence[Sequence[Mapping[str, Any]]]]


@dataclass(frozen=True)
class LargeTables:
    """The crossed pair: a step's time of recops and of stock Keras, and rows of the tables."""

    milliseconds: tuple[float, ...]
    rows: int
    rows_trained: int
    rows_a_step: int
    batch_size: int
    buckets: int
    pairs: Sequence[tuple[str, str]]


_STYLE = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e6ea",
    "axes.axisbelow": True,
    "svg.fonttype": "path",
}

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>recops: DeepFM and DIEN on MovieLens 100K</title>
<style>
body { font: 16px/1.55 system-ui, sans-serif; color: #1d2530; background: #f5f6f8; margin: 0; }
main { max-width: 60rem; margin: 2rem auto; padding: 1.5rem 2.5rem; background: #fff;
       border: 1px solid #e3e6ea; border-radius: 8px; }
h1 { font-size: 1.7rem; margin: .4rem 0; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .2rem; }
p { max-width: 46rem; }
.verdict { max-width: none; font-size: 1.08rem; padding: .7rem 1rem; background: #e9f4f7;
           border-left: 4px solid #0b6e8a; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .7rem; text-align: right; border-bottom: 1px solid #e3e6ea; }
th:first-child, td:first-child { text-align: left; }
th { font-weight: 600; color: #4a5564; }
svg { width: 100%; height: auto; }
footer { margin-top: 2rem; font-size: .88rem; color: #4a5564; }
</style>
</head>
<body>
<main>
<h1>DeepFM and DIEN on MovieLens 100K</h1>
<p>Each model twice: once of recops layers, once of stock Keras layers, with the same initial
distributions, batches, early stopping and (but for the crossed DeepFM) optimizer. $rows_train
ratings to train on, $rows_validation to stop by, $rows_test to test on; a rating of 4 or 5 is a
click. DeepFM sees the user, the film and the hour; DIEN also the last 50 films that the user
clicked; the crossed DeepFM also pairs of columns. Means with standard deviations over the seeds:
$seeds.</p>
<p class="verdict">$verdict</p>
$table
<h2>Large tables</h2>
<p>The crossed DeepFM reads pairs of columns as fields of their own: $pairs. Each is hashed into
$buckets buckets, as one does where pairs are too many to list. Stock Keras's Adam goes through all
$rows rows and both their moments in every step; <code>recops.optimizers.LazyAdam</code> moves the
rows that the batch of $batch_size reads, $rows_a_step on average. These clicks fill few of the
buckets, $rows_trained rows in all; Adam's time is that of the table, filled or not. Learning rate
and dropout are the same on both sides, neither has a penalty of the embeddings, and each runs with
or without XLA, as it is faster.</p>
$large
<h2>Learning curves</h2>
<p>A thin line is one seed, the bold line their mean. DIEN's training loss holds the auxiliary
loss of its interests.</p>
$curves
<h2>Ops, forward and backward</h2>
<p>Small shapes, float32, timed in turns in one run after each result was compared with the
reference. The better of graph and XLA counts for each side. <code>recops bench</code> has all ops
and the real sizes.</p>
$bars
<footer>
<p>$versions<br>$device, $threads threads, $backend<br>
Run time of the demo: $minutes minutes.</p>
</footer>
</main>
</body>
</html>
""")


def text_table(cells: Sequence[Sequence[str]]) -> str:
    """The table for a terminal."""
    rows = [HEADER, *cells]
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join(
        "  ".join(
            f"{cell:{'<' if i == 0 else '>'}{width}}"
            for i, (cell, width) in enumerate(zip(row, widths))
        )
        for row in rows
    )


def write(
    path: Path,
    *,
    verdicts: Sequence[str],
    cells: Sequence[Sequence[str]],
    large: LargeTables,
    curves: Mapping[str, Curves],
    rows: Sequence[Row],
    data: Dataset,
    backend: str,
    minutes: float,
) -> None:
    """Write the page under a temporary name, then give it its own."""
    info = recops.info()
    seeds = {name: len(next(iter(runs.values()))) for name, runs in curves.items()}
    page = _PAGE.substitute(
        verdict="<br>".join(map(html.escape, verdicts)),
        rows_train=f"{len(data.train):,}",
        rows_validation=f"{len(data.validation):,}",
        rows_test=f"{len(data.test):,}",
        seeds=", ".join(f"{count} of {name}" for name, count in seeds.items()),
        table=html_table(cells),
        pairs=html.escape(", ".join(f"{a} × {b}".replace("_", " ") for a, b in large.pairs)),
        buckets=f"{large.buckets:,}",
        rows=f"{large.rows:,}",
        rows_trained=f"{large.rows_trained:,}",
        rows_a_step=f"{large.rows_a_step:,}",
        batch_size=f"{large.batch_size:,}",
        large=draw_large(large),
        curves="\n".join(
            f"<h3>{html.escape(name)}</h3>\n{draw_curves(runs)}" for name, runs in curves.items()
        ),
        bars=draw_bars(rows) if rows else "<p>No op was timed.</p>",
        versions=html.escape(", ".join(f"{k} {v}" for k, v in info.versions.items())),
        device=html.escape(rows[0].device if rows else "CPU"),
        threads=rows[0].threads if rows else os.cpu_count(),
        backend=html.escape(backend),
        minutes=f"{minutes:.1f}",
    )
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(page, encoding="utf-8")
    os.replace(temporary, path)


def html_table(cells: Sequence[Sequence[str]]) -> str:
    """The table for the page."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in HEADER)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in cells
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def draw_large(large: LargeTables) -> str:
    """A step's milliseconds on either side, and the rows it moves, as SVG."""
    fused, stock = large.milliseconds
    names = ("recops, LazyAdam", "stock Keras, Adam")
    panels = (
        ("milliseconds a step", (f"{fused:,.1f} ms  ({stock / fused:.1f}x)", f"{stock:,.1f} ms")),
        ("rows moved a step", (f"{large.rows_a_step:,}", f"{large.rows:,}")),
    )
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(10, 1.9), sharey=True, layout="constrained")
        for axis, (title, texts), widths in zip(
            axes, panels, (large.milliseconds, (large.rows_a_step, large.rows))
        ):
            axis.barh(names, widths, 0.6, color=COLORS[:2])
            for place, (width, text) in enumerate(zip(widths, texts)):
                _label(axis, width, place, text)
            axis.set_title(title)
            axis.grid(axis="y", visible=False)
            # Room for the number behind the longest bar.
            axis.set_xlim(0, 1.4 * max(widths))
            axis.xaxis.set_major_formatter("{x:,.0f}")
            axis.locator_params(axis="x", nbins=4)
        axes[0].invert_yaxis()
        return _svg(figure)


def _label(axis: Any, width: float, place: float, text: str) -> None:
    """A bar's number behind its end."""
    axis.annotate(
        text,
        (width, place),
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
        fontsize=10,
    )


def draw_curves(curves: Curves) -> str:
    """Training loss and validation AUC by epoch, as SVG."""
    panels = (("loss", "training loss"), ("validation_auc", "validation AUC"))
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(1, len(panels), figsize=(10, 3.8), layout="constrained")
        for axis, (key, title) in zip(axes, panels):
            for (kind, runs), color in zip(curves.items(), COLORS):
                lines = [[epoch[key] for epoch in run] for run in runs]
                for line in lines:
                    axis.plot(range(1, len(line) + 1), line, color=color, alpha=0.3, linewidth=1)
                # Where early stopping ended a run, a mean over the others would jump.
                shared = range(min(map(len, lines)))
                means = [sum(line[i] for line in lines) / len(lines) for i in shared]
                epochs = range(1, len(means) + 1)
                axis.plot(epochs, means, color=color, linewidth=2.4, marker="o", ms=4, label=kind)
            axis.set_title(title)
            axis.set_xlabel("epoch")
            axis.xaxis.get_major_locator().set_params(integer=True)
        axes[0].legend(frameon=False)
        return _svg(figure)


def draw_bars(rows: Sequence[Row]) -> str:
    """Milliseconds of the best recops path and the best stock form of each case, as SVG."""
    best: dict[str, dict[bool, float]] = {}
    for row in rows:
        # The reference is the formula that judges the others, not a way to compute.
        if row.median_ms is not None and row.provider != "reference":
            times = best.setdefault(row.op, {})
            times[row.stock] = min(row.median_ms, times.get(row.stock, row.median_ms))
    cases = {op: times for op, times in best.items() if len(times) == 2}
    height = 0.32
    with plt.rc_context(_STYLE):
        figure, axis = plt.subplots(figsize=(10, 1.2 + 0.62 * len(cases)), layout="constrained")
        for place, times in enumerate(cases.values()):
            for stock, shift in ((False, -height / 2), (True, height / 2)):
                axis.barh(place + shift, times[stock], height, color=COLORS[stock])
                text = f"{times[stock]:.2f} ms"
                if not stock:
                    text += f"  ({times[True] / times[False]:.1f}x)"
                _label(axis, times[stock], place + shift, text)
        axis.set_yticks(range(len(cases)), cases)
        axis.invert_yaxis()
        axis.grid(axis="y", visible=False)
        axis.margins(x=0.16)
        axis.set_xlabel("milliseconds, less is better")
        handles = [plt.Rectangle((0, 0), 1, 1, color=COLORS[stock]) for stock in (False, True)]
        names = ["recops", "best stock form"]
        # Above the bars: within the axes it would lie on one.
        axis.legend(handles, names, frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
        return _svg(figure)


def _svg(figure: Any) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg")
    plt.close(figure)
    # Within a page the XML prologue is an error, and ids must differ between pictures; with fonts
    # as paths the glyph ids are the same shapes, so they may repeat.
    return text.getvalue()[text.getvalue().index("<svg") :]
