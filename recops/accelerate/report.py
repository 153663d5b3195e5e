"""What `accelerate` did, layer by layer, as a table and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from recops.accelerate.page import body, page


@dataclass(frozen=True)
class Row:
    """A layer, or several that became one.

    Args:
      layer: its name, after those of the models and layers around it.
      was: its class.
      now: what it became, or None where it stayed.
      reason: in a sentence, why.
      max_difference: the largest one of an output or gradient of the whole model when it alone is
        swapped, relative to the largest value there; None where it was not compared.
      ms_before, ms_after: a train step with all other swaps and without this one, and with it.
    """

    layer: str
    was: str
    now: str | None
    reason: str
    max_difference: float | None = None
    ms_before: float | None = None
    ms_after: float | None = None

    @property
    def speed_up(self) -> float | None:
        """Of a train step by this swap, with all others in place."""
        return ratio(self.ms_before, self.ms_after)


@dataclass(frozen=True)
class Report:
    """What `recops.accelerate` did. Printable; `to_dict()`, `to_html()`.

    Args:
      rows: of layers that a swap is known for, and of layers of unknown classes.
      ms_before, ms_after: a train step of the model as it was and as it is now; None without
        `measure`.
      forward_ms_before, forward_ms_after: the same of inference.
      batch_size: of the probe batch.

    Example:
      >>> report = Report((Row("gru", "GRU", "recops.layers.GRU", "faster", 1e-7),), 80.0, 40.0)
      >>> report.speed_up
      2.0
      >>> print(report)
      layer  was  now                difference  reason
      gru    GRU  recops.layers.GRU  1.0e-07     faster
      train step: 80.0 ms before, 40.0 ms now (2.00x)
    """

    rows: tuple[Row, ...]
    ms_before: float | None = None
    ms_after: float | None = None
    forward_ms_before: float | None = None
    forward_ms_after: float | None = None
    batch_size: int | None = None

    @property
    def speed_up(self) -> float | None:
        """Of a train step: how many times as fast the model is now."""
        return ratio(self.ms_before, self.ms_after)

    @property
    def forward_speed_up(self) -> float | None:
        """Of inference."""
        return ratio(self.forward_ms_before, self.forward_ms_after)

    @property
    def swapped(self) -> tuple[Row, ...]:
        """The rows of what is another layer now."""
        return tuple(row for row in self.rows if row.now is not None)

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries, lists, strings and numbers."""
        return {
            **asdict(self),
            "rows": [asdict(row) for row in self.rows],
            "speed_up": self.speed_up,
            "forward_speed_up": self.forward_speed_up,
        }

    def to_html(self) -> str:
        """A page of its own: the table, and bars of the times before and after."""
        return page(self)

    def _repr_html_(self) -> str:
        return body(self)

    def timed(self) -> list[str]:
        """The times of the whole in sentences."""
        found = (
            ("train step", self.ms_before, self.ms_after, self.speed_up),
            ("inference", self.forward_ms_before, self.forward_ms_after, self.forward_speed_up),
        )
        return [
            f"{what}: {before:.1f} ms before, {after:.1f} ms now ({speed_up:.2f}x)"
            for what, before, after, speed_up in found
            if before is not None and after is not None and speed_up is not None
        ]

    def __str__(self) -> str:
        cells = [
            [
                row.layer,
                row.was,
                row.now or "-",
                "-" if row.max_difference is None else f"{row.max_difference:.1e}",
                row.reason,
            ]
            for row in self.rows
        ]
        lines = _table([["layer", "was", "now", "difference", "reason"], *cells])
        if not self.rows:
            lines = ["no layer of this model has a swap"]
        return "\n".join([*lines, *self.timed()])

    __repr__ = __str__


def ratio(before: float | None, after: float | None) -> float | None:
    """How many times as fast, where both are known."""
    return before / after if before is not None and after else None


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows)]
    return [
        "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths)).rstrip() for row in rows
    ]
