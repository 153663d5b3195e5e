"""A `Profile`: what bounds a train step, in a sentence, a table and plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from recops.profiling.profile_page import page


class Layer(NamedTuple):
    """A layer, or several of one class, shape and size.

    Args:
      name: of the first one.
      was: its class.
      kind: "table" (rows are looked up), "products" (at the floor of its products and bytes) or
        "op" (above it).
      forward, backward: milliseconds, alone.
      floor: least milliseconds of both, by the machine's products and copies.
      share_ms: of the whole step.
    """

    name: str
    was: str
    kind: str
    forward: float
    backward: float
    floor: float
    share_ms: float


class Advice(NamedTuple):
    """What `recops.accelerate` would change, and the train step that it measured with and without.

    Example:
      >>> Advice(("optimizer: Adam -> recops.optimizers.LazyAdam",), 98.0, 18.0).gain_ms
      80.0
    """

    changes: tuple[str, ...]
    ms_before: float
    ms_after: float

    @property
    def gain_ms(self) -> float:
        """Milliseconds that a step would be shorter."""
        return self.ms_before - self.ms_after

    def __str__(self) -> str:
        return (
            f"recops.accelerate would take a step from {self.ms_before:.1f} to "
            f"{self.ms_after:.1f} ms: {'; '.join(self.changes)}"
        )


@dataclass(frozen=True)
class Profile:
    """Where a train step goes. Printable; `to_dict()`, `to_html()`.

    Args:
      step_ms: a whole step, input included.
      forward_ms, backward_ms: of it.
      tables_moved_ms: of the optimizer for the tables.
      optimizer: its class.
      shares: fractions that add up to 1: "input"; "tables" (lookups, and the optimizer's work on
        them); "optimizer" (of all other weights); "ops"; "products"; "dispatch" (calling a
        function); "rest" (what no part accounts for).
      layers: the largest first.
      advice: what recops would change.
      table_rows, rows_used: of all tables, and those that have a gradient; None where all have.
      starting_ms: what grows with neither rows nor bytes: the step on one row without the
        optimizer, and what that takes, tables apart, over moving its bytes.
      starting: whether that is most of the whole step.
      notes: what was assumed.
    """

    step_ms: float
    forward_ms: float
    backward_ms: float
    tables_moved_ms: float
    optimizer: str
    shares: Mapping[str, float]
    layers: tuple[Layer, ...]
    advice: tuple[Advice, ...]
    table_rows: int
    rows_used: int | None
    starting_ms: float
    starting: bool
    notes: tuple[str, ...]
    batch_size: int
    jit: bool
    threads: int

    @property
    def bound(self) -> str:
        """ "input", "tables", "ops", "products" or "dispatch": the largest part of a step."""
        largest = {
            "input": self.shares["input"],
            "tables": self.shares["tables"] + self.shares["optimizer"],
            "ops": self.shares["ops"],
            "products": self.shares["products"],
            "dispatch": self.shares["dispatch"],
        }
        first = max(largest, key=lambda name: largest[name])
        return "dispatch" if self.starting and first != "input" else first

    @property
    def verdict(self) -> str:
        """What bounds a step, in one sentence."""
        share = self.shares
        if self.bound == "input":
            said = f"{share['input']:.0%} of a step is waiting for its batch"
        elif self.bound == "dispatch":
            said = (
                f"a step is bound by dispatch: starting its ops takes {self.starting_ms:.2f} of "
                f"{self.step_ms:.2f} ms, whatever the rows"
            )
        elif self.bound == "tables":
            said = self._tables()
        else:
            kind = {"ops": "op", "products": "products"}[self.bound]
            first = next(layer for layer in self.layers if layer.kind == kind)
            part = first.share_ms / self.step_ms
            if kind == "op":
                said = f"{share['ops']:.0%} of a step is ops above their floor"
                said += f", {part:.0%} {first.name} ({first.was})"
            else:
                said = f"{share['products']:.0%} of a step is products near the machine's floor"
                said += f", {part:.0%} {first.name} ({first.was})"
        for each in self.advice:
            said += (
                f"; recops.accelerate would take about {each.ms_after:.0f} of "
                f"{each.ms_before:.0f} ms"
            )
        return said

    def _tables(self) -> str:
        moved = self.tables_moved_ms / self.step_ms
        whole = self.shares["tables"] + self.shares["optimizer"]
        used = "all of them used" if self.rows_used is None else f"{self.rows_used:,} used"
        rows = f"{self.table_rows:,} rows, {used}"
        if moved >= 0.5 * whole:
            return f"{moved:.0%} of a step is {self.optimizer} moving tables: {rows}"
        return f"{whole:.0%} of a step is tables and the optimizer {self.optimizer}: {rows}"

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries, lists, strings and numbers."""
        return {
            "verdict": self.verdict,
            "bound": self.bound,
            "step_ms": self.step_ms,
            "forward_ms": self.forward_ms,
            "backward_ms": self.backward_ms,
            "tables_moved_ms": self.tables_moved_ms,
            "optimizer": self.optimizer,
            "shares": dict(self.shares),
            "layers": [layer._asdict() for layer in self.layers],
            "advice": [
                {**each._asdict(), "changes": list(each.changes), "gain_ms": each.gain_ms}
                for each in self.advice
            ],
            "table_rows": self.table_rows,
            "rows_used": self.rows_used,
            "starting_ms": self.starting_ms,
            "notes": list(self.notes),
            "batch_size": self.batch_size,
            "jit": self.jit,
            "threads": self.threads,
        }

    def to_html(self) -> str:
        """A page of its own: the sentence, a bar of the step, and the table."""
        return page(self)

    def __str__(self) -> str:
        how = "XLA" if self.jit else "a graph"
        lines = [
            self.verdict,
            f"a step of {self.batch_size} rows in {how} on {self.threads} threads: "
            f"{self.step_ms:.2f} ms (forward {self.forward_ms:.2f}, backward "
            f"{self.backward_ms:.2f})",
            "",
            *(
                f"{name:10} {share:7.1%} {share * self.step_ms:9.2f} ms"
                for name, share in self.shares.items()
            ),
            "",
            f"{'layer':36} {'class':24} {'kind':9} {'forward':>9} {'backward':>9} {'floor':>8} "
            f"{'of step':>8}",
        ]
        for layer in self.layers:
            lines.append(
                f"{layer.name[:36]:36} {layer.was[:24]:24} {layer.kind:9} {layer.forward:9.2f} "
                f"{layer.backward:9.2f} {layer.floor:8.2f} {layer.share_ms / self.step_ms:8.1%}"
            )
        lines += ["", *(str(each) for each in self.advice)]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    __repr__ = __str__
