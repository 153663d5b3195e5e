"""The pictures of `recops.explain`."""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np

from recops.explain.weights import Weights

_INK, _BLUE, _ORANGE = "#1d2530", "#0b6e8a", "#d9822b"


def draw(name: str, part: Weights, row: int | None) -> Any:
    """The matplotlib figure of one layer's weights: of a row, or their mean over the batch."""
    module = _package("matplotlib.figure")
    values = part.values.mean(axis=0) if row is None else part.values[row]
    title = f"{name} ({part.layer})"
    if len(part.values) > 1:
        title += ": mean of the batch" if row is None else f": row {row}"
    if part.layer == "AttentionalPooling":
        figure = _pairs(module, values, part.axes[0])
    elif values.ndim == 3:
        figure = _heads(module, values, part.axes)
    elif part.layer == "SENET":
        figure = _bars(module, values, part.axes[0])
        # Below it SENET takes from a field, above it gives.
        figure.axes[0].axvline(1, color=_ORANGE, linewidth=1)
    else:
        figure = _steps(module, values, part, row)
    figure.suptitle(title, color=_INK, fontsize=11)
    return figure


def _pairs(module: Any, values: np.ndarray, pairs: tuple[str, ...]) -> Any:
    """Pairs in a triangle, a field a row and a column."""
    count = (1 + math.isqrt(1 + 8 * len(pairs))) // 2
    rows, columns = np.triu_indices(count, 1)
    square = np.full((count, count), np.nan)
    square[rows, columns] = values
    left = [pair.split(" x ")[0] for pair in pairs]
    names = [left[0], *(pair.split(" x ")[1] for pair in pairs[: count - 1])]
    side = _side(count)
    figure = module.Figure(figsize=(side + 2.5, side + 1.5), layout="constrained")
    axes = figure.subplots()
    # The last row and the first column hold no pair.
    _heatmap(figure, axes, square[:-1, 1:], names[:-1], names[1:], square)
    return figure


def _heads(module: Any, values: np.ndarray, axes: tuple[tuple[str, ...], ...]) -> Any:
    """A square a head: from the field of the row to that of the column."""
    heads, fields, _ = axes
    side = _side(len(fields))
    size = (len(heads) * (side + 1) + 2, side + 2)
    figure = module.Figure(figsize=size, layout="constrained")
    plots = figure.subplots(1, len(heads), squeeze=False)[0]
    for place, (axis, head) in enumerate(zip(plots, heads)):
        _heatmap(figure, axis, values[place], fields if place == 0 else (), fields, values)
        axis.set_title(head, color=_INK, fontsize=10)
    plots[0].set_ylabel("attends")
    for axis in plots:
        axis.set_xlabel("to")
    return figure


def _heatmap(
    figure: Any, axes: Any, values: np.ndarray, rows: Any, columns: Any, all_values: np.ndarray
) -> None:
    high = float(np.nanmax(all_values))
    shown = axes.imshow(values, cmap="Blues", vmin=0, vmax=high or 1)
    axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0, labelsize=9)
    axes.spines[:].set_visible(False)
    if values.size <= 400:
        for (y, x), value in np.ndenumerate(values):
            if not np.isnan(value):
                color = "white" if value > 0.6 * high else _INK
                axes.text(x, y, f"{value:.2g}", ha="center", va="center", fontsize=7, color=color)
    else:
        figure.colorbar(shown, ax=axes, shrink=0.8)


def _bars(module: Any, values: np.ndarray, names: tuple[str, ...]) -> Any:
    """A bar a field."""
    figure = module.Figure(figsize=(6.5, 0.32 * len(names) + 1.4), layout="constrained")
    axes = figure.subplots()
    axes.barh(range(len(names)), values, color=_BLUE)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("factor of the field")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _steps(module: Any, values: np.ndarray, part: Weights, row: int | None) -> Any:
    """A bar a step; of one row the steps that are no padding, with their ids."""
    places, labels = np.arange(len(values)), list(part.axes[0])
    named = row is not None and part.ids is not None
    if named:
        ids = np.asarray(part.ids)[row]
        places = np.flatnonzero(ids)
        labels = [str(i) for i in ids[places]]
        values = values[places]
    width = min(16.0, max(6.5, 0.24 * len(values) + 1.5))
    figure = module.Figure(figsize=(width, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.bar(range(len(values)), values, color=_BLUE)
    # More labels than this would stand on each other.
    every = max(1, math.ceil(len(labels) / 60))
    axes.set_xticks(range(0, len(labels), every), labels[::every], rotation=90, fontsize=8)
    if named:
        axes.set_xlabel(f"ids of {part.history}, in order of the steps, padding left out")
    axes.set_ylabel("weight")
    axes.spines[["top", "right"]].set_visible(False)
    if not len(values):
        axes.text(0.5, 0.5, "the history is empty", ha="center", transform=axes.transAxes)
    return figure


def _side(count: int) -> float:
    """Width in inches of a square of so many fields."""
    return min(12.0, max(3.0, 0.42 * count))


def _package(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ImportError(
            "Explanation: a figure needs the package matplotlib: pip install 'recops[plot]'"
        ) from None
