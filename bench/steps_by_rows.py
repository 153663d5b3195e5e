"""What a DeepFM step costs by the rows of its tables: picture, README, docs/embeddings.md.

    python bench/steps_by_rows.py

Of the rows that bench/models/run.py and bench/peers/tables.py kept; both write these anew after
they have measured.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parent
MODELS, PEERS = ROOT / "results" / "models.jsonl", ROOT / "results" / "peers.jsonl"
README = ROOT.parent / "README.md"
DOC = ROOT.parent / "docs" / "embeddings.md"
CHART = ROOT.parent / "docs" / "steps.svg"
BEGIN, END = "<!-- steps-by-rows -->", "<!-- /steps-by-rows -->"
FIELDS = 26
MISSING = "Not measured yet."

Row = dict[str, Any]

# As a reader of the table knows them, in its order.
NAMES = {
    "lazy_adam": "`LazyAdam`",
    "lazy_adagrad": "`LazyAdagrad`",
    "rowwise_adagrad": "`RowwiseAdagrad`",
    "lazy_ftrl": "`LazyFTRL`",
    "sgd": "Keras's SGD",
    "adagrad": "Keras's Adagrad",
    "adam": "Keras's Adam",
}
# Line, colour, whose rows, which optimizer.
LINES = (
    ("recops, LazyAdam", "#0b6e8a", "recops", "lazy_adam"),
    ("stock Keras layers, Adam", "#d9822b", "stock", "adam"),
    ("DeepCTR, Adam", "#8a5a9e", "DeepCTR", "adam"),
    ("FuxiCTR, Adam", "#9a9a9a", "FuxiCTR", "adam"),
    ("PyTorch, SparseAdam", "#4f8f4f", "PyTorch", "sparse_adam"),
)
# Of these every point has its number, below the line or above it; the last stands with the name.
NUMBERED = {"recops": (-13, "top"), "stock": (-10, "top")}
# Behind words that a line may cross.
WHITE = {"facecolor": "white", "edgecolor": "none", "pad": 1}


def read(path: Path) -> list[Row]:
    """The rows of a file, none if there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def put(path: Path, begin: str, end: str, text: str) -> None:
    """Replace what stands between two marks of a file."""
    before, rest = path.read_text().split(begin)
    path.write_text(f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}")


def best(rows: Sequence[Row]) -> Row | None:
    """The fastest row, if there is one."""
    return min(rows, key=lambda row: row["median_ms"], default=None)


def deepfm(rows: Sequence[Row]) -> list[Row]:
    """The rows of DeepFM at a size."""
    return [row for row in rows if row["model"] == "DeepFM" and row.get("ids")]


def line(rows: Sequence[Row], side: str, optimizer: str) -> dict[int, Row]:
    """Ids a field -> the faster form of a side."""
    found: dict[int, list[Row]] = {}
    for row in rows:
        if row["side"].startswith(side) and row["optimizer"] == optimizer:
            found.setdefault(row["ids"], []).append(row)
    return {ids: min(found[ids], key=lambda row: row["median_ms"]) for ids in sorted(found)}


def lines(models: Sequence[Row], peers: Sequence[Row]) -> dict[str, dict[int, Row]]:
    """What is drawn. Of recops the rows are those that took turns with stock Keras."""
    other = [row for row in deepfm(peers) if row["side"] != "recops"]
    known = [*deepfm(models), *other]
    drawn = {name: line(known, side, optimizer) for name, _, side, optimizer in LINES}
    return {name: points for name, points in drawn.items() if points}


def chart(models: Sequence[Row], peers: Sequence[Row]) -> Figure:
    """Milliseconds by rows, both logarithmic."""
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.set_xscale("log")
    axes.set_yscale("log")
    drawn = lines(models, peers)
    ends: list[tuple[float, float, str, str]] = []
    for name, colour, side, _ in LINES:
        if name not in drawn:
            continue
        points = drawn[name]
        x = [FIELDS * ids for ids in points]
        y = [row["median_ms"] for row in points.values()]
        mine = side == "recops"
        axes.plot(x, y, "o-", color=colour, linewidth=3 if mine else 1.6, markersize=5)
        shift, align = NUMBERED.get(side, (None, None))
        # Where the tables are small all lines begin together: one number says it.
        for at, ms in list(zip(x[:-1], y))[0 if mine else 1 :] if shift is not None else ():
            axes.annotate(
                number(ms), (at, ms), (0, shift), textcoords="offset points", ha="center",
                va=align, color=colour, fontsize=9, fontweight="bold" if mine else None, bbox=WHITE,
            )  # fmt: skip
        ends.append((y[-1], x[-1], f"{name}: {number(y[-1])}", colour))
    _name_lines(axes, ends)
    axes.set_xlabel("rows of the tables (26 fields)")
    axes.set_ylabel("a train step")
    sizes = sorted({FIELDS * ids for points in drawn.values() for ids in points})
    axes.set_xticks(sizes, [words(rows) for rows in sizes])
    axes.minorticks_off()
    ticks = [ms for ms in (10, 30, 100, 300, 1000, 3000) if _inside(axes, ms)]
    axes.set_yticks(ticks, [number(ms) for ms in ticks])
    axes.grid(axis="y", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _inside(axes: Any, ms: float) -> bool:
    low, high = axes.get_ylim()
    return low <= ms <= high


def _name_lines(axes: Any, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """The name of each line beside its last point, moved up where two would overlap."""
    axes.margins(x=0.06, y=0.12)
    low, high = axes.get_ylim()
    least = (high / low) ** 0.055
    taken = 0.0
    for ms, rows, name, colour in sorted(ends):
        at = max(ms, taken * least)
        taken = at
        axes.annotate(
            name, (rows, at), (12, 0), textcoords="offset points", va="center", color=colour,
            fontsize=9, annotation_clip=False, bbox=WHITE,
        )  # fmt: skip


def number(ms: float) -> str:
    """Milliseconds with as many places as they deserve."""
    return f"{ms:,.0f} ms" if ms >= 100 else f"{ms:.1f} ms" if ms < 10 else f"{ms:.0f} ms"


def words(rows: int) -> str:
    """26 thousand, 2.6 million."""
    return f"{rows / 1e6:g} million" if rows >= 1e6 else f"{rows / 1e3:g} thousand"


def table(models: Sequence[Row]) -> str:
    """A line an optimizer, graph and jit at each size."""
    rows = deepfm(models)
    sizes = sorted({row["ids"] for row in rows})
    if not rows:
        return MISSING
    text = [
        "| model, optimizer | " + " | ".join(f"{ids:,} ids a field" for ids in sizes) + " |",
        "|---|" + "---|" * len(sizes),
    ]
    for side, title in (("recops", "recops"), ("stock", "stock Keras layers")):
        for optimizer, name in NAMES.items():
            own = [r for r in rows if (r["side"], r["optimizer"]) == (side, optimizer)]
            if own:
                cells = [_cell([r for r in own if r["ids"] == ids]) for ids in sizes]
                text.append(f"| {title}, {name} | {' | '.join(cells)} |")
    kept = rows[0]
    text += [
        "",
        f"Milliseconds a step, graph / jit. {kept['device']}, {kept['threads']} threads, "
        f"TensorFlow {kept['tf']}, Keras {kept['keras']}.",
    ]
    if beside := _beside(rows):
        text[-1] += f" {beside}"
    return "\n".join(text)


def _cell(rows: Sequence[Row]) -> str:
    ms = {row["compiled"]: row["median_ms"] for row in rows}
    return " / ".join(f"{ms[form]:.1f}" if form in ms else "–" for form in ("graph", "jit"))


def _beside(rows: Sequence[Row]) -> str:
    """How LazyAdam's step grows with the tables, in turns with itself."""
    grown = {
        row["compiled"]: row["median_ms"] / row["reference_ms"]
        for row in rows
        if (row["side"], row["optimizer"]) == ("recops", "lazy_adam") and row["reference_ms"]
    }
    if not grown:
        return ""
    ratios = " and ".join(f"{grown[form]:.2f} times ({form})" for form in sorted(grown))
    return (
        f"`LazyAdam` with 1,000,000 ids a field, in turns with itself at 1,000: {ratios} as long."
    )


def sentences(models: Sequence[Row]) -> str:
    """The README's picture, and what it shows."""
    rows = deepfm(models)
    ours, stock = line(rows, "recops", "lazy_adam"), line(rows, "stock", "adam")
    both = [ids for ids in ours if ids in stock]
    if len(both) < 2:
        return MISSING
    few, many = both[0], both[-1]
    return (
        "![Train step by rows of the tables](docs/steps.svg)\n\n"
        f"A DeepFM step on 4096 examples takes {number(ours[few]['median_ms'])} with "
        f"`recops.optimizers.LazyAdam` over {words(FIELDS * few)} rows of embeddings and "
        f"{number(ours[many]['median_ms'])} over {words(FIELDS * many)}; stock Keras layers with "
        f"Adam take {number(stock[few]['median_ms'])} and {number(stock[many]['median_ms'])}. "
        "Which optimizer, which penalty, how much memory: "
        "[docs/embeddings.md](docs/embeddings.md)."
    )


def write() -> None:
    """Picture, README and document of the kept rows."""
    kept = read(MODELS)
    put(README, BEGIN, END, sentences(kept))
    put(DOC, BEGIN, END, table(kept))
    if deepfm(kept):
        save(chart(kept, read(PEERS)), CHART)


def save(figure: Figure, path: Path) -> None:
    """As SVG; the same rows give the same file."""
    with rc_context({"svg.hashsalt": "recops", "svg.fonttype": "none"}):
        figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    write()
