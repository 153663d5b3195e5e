"""`accelerate`: find the swaps, prove and measure them, hand back a copy with the good ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import tensorflow as tf

from recops._core import checks, compat
from recops._core.compat import keras
from recops.accelerate import compiling, probe
from recops.accelerate.copying import CannotCopy, Copy, Place
from recops.accelerate.finding import Choice, find_places, one_line
from recops.accelerate.measuring import Candidate, Times
from recops.accelerate.measuring import measure as time_all
from recops.accelerate.proving import FLOAT32, Prover, as_array
from recops.accelerate.report import Report, Row

_STOCK, _WHOLE, _KEPT = "stock", "whole", "whole, its own optimizer"


def accelerate(
    model: Any,
    *,
    batch: Any = None,
    tolerance: float | None = None,
    measure: bool = True,
    only: Any = None,
    keep: Any = (),
    optimizer: str | None = "lazy",
) -> tuple[Any, Report]:
    """A copy of a Keras model whose known layers are faster ones with the same weights.

    Each swap is proved: outputs in inference and gradients in training of the whole model with it
    alone are compared with those of the stock model on a probe batch, with weights that hide
    nothing and without dropout. Then it is measured. What differs or does not pay stays, and the
    report says why. The model itself is not touched. A compiled model stays compiled, and its copy
    goes on training where it stands, with the optimizer's state.

    Args:
      model: a functional, Sequential or subclassed `keras.Model` with its weights built. One that
        cannot be made again from its config is handed back itself.
      batch: inputs as the model is called with, each [B, ...] as its input says, with a B as it is
        served or trained with, for the times to mean something; None: 512 rows drawn from what the
        inputs say of themselves, ids within the tables that look them up.
      tolerance: the largest difference that is none, relative to the largest value; None: 1e-5 in
        float32, or else an error against a wider computation at most twice (outputs) or three times
        (gradients) that of the stock layers.
      measure: time inference and a train step, and undo the swaps that do not pay.
      only: swap layers of these names, paths ("encoder/gru") or classes alone.
      keep: and none of these.
      optimizer: "lazy" replaces Keras's Adam, Adagrad and Ftrl by those of `recops.optimizers`
        where a table's gradient is of rows; "keep" or None leaves it.

    Defaults: measure=True, keep=(), optimizer="lazy".

    Returns: (model, report), a `keras.Model` and a `Report` with `rows`, `ms_before`, `ms_after`,
    `speed_up`.

    Raises: TypeError for what is no Keras model; ValueError for weights that are not built, a batch
    whose names or shapes do not fit, a subclassed model without a batch, and an `only` or `keep`
    that names no layer.

    Example:
      >>> import recops
      >>> from recops._core.compat import keras
      >>> x = keras.Input((6, 3))
      >>> stock = keras.Model(x, keras.layers.GRU(4, name="gru")(x))
      >>> fast, report = recops.accelerate(stock, measure=False)
      >>> [(row.layer, row.now) for row in report.rows]
      [('gru', 'recops.layers.GRU')]
      >>> type(fast.get_layer("gru"))
      <class 'recops.layers.recurrent.GRU'>
    """
    mode = checks.choice("accelerate", "optimizer", optimizer or "keep", compiling.MODES)
    choice = Choice(only, keep)
    _check(model)
    batch = probe.drawn(model) if batch is None else probe.checked(model, batch)
    try:
        work = _Work(model, batch, tolerance, mode)
    except CannotCopy as reason:
        return model, Report((Row(model.name, type(model).__name__, None, str(reason)),))
    return work.run(choice, measure)


def _check(model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise TypeError(f"accelerate: expected a keras.Model, got {type(model).__name__}")
    if not model.built or (isinstance(model, keras.Sequential) and compat.graph_of(model) is None):
        raise ValueError(
            f"accelerate: the model {model.name!r} has no weights yet; call it on a batch first"
        )


class _Work:
    """One run of `accelerate`."""

    def __init__(self, model: Any, batch: Any, tolerance: float | None, mode: str) -> None:
        self._model = model
        self._batch = batch
        self._lazy = mode == "lazy" and compat.is_compiled(model)
        self._prover = Prover(model, batch, tolerance)
        off = self._prover.check_copying()
        if not off <= (tolerance or FLOAT32):
            raise CannotCopy(
                f"made again from its config it computes something else: {off:.1e} of the largest "
                f"value"
            )
        self._rows: dict[str, Row] = {}
        self._times: dict[str, Times] = {}

    def run(self, choice: Choice, measured: bool) -> tuple[Any, Report]:
        stock = Copy(self._model, batch=self._batch)
        places, kept = find_places(self._model, stock, self._batch, choice)
        places = self._together(self._proved(places))
        lazy = self._lazy
        if measured:
            places, lazy = self._paying(places)
        copy = self._made(places)
        rows = [*self._rows.values(), *kept]
        if compat.is_compiled(self._model):
            rows += self._compiled(copy, places, lazy)
        before, after = self._times.get(_STOCK), self._times.get(_WHOLE if lazy else _KEPT)
        return copy.model, Report(
            tuple(rows),
            before and before.step,
            after and after.step,
            before and before.forward,
            after and after.forward,
            int(tf.nest.flatten(self._batch)[0].shape[0]),
        )

    def _made(self, places: Sequence[Place]) -> Copy:
        copy = Copy(self._model, places, batch=self._batch)
        copy.load(as_array)
        return copy

    def _proved(self, places: Sequence[Place]) -> list[Place]:
        """Those that alone make no difference."""
        proved = []
        optimizer = self._model.optimizer if compat.is_compiled(self._model) else None
        apart = None if optimizer is None else compiling.why_not_joined(optimizer)
        for place in places:
            try:
                if apart and any(len(each.old) > 1 for each in place.replace().carried):
                    self._rows[place.path] = Row(place.path, place.was, None, apart)
                    continue
                difference, holds = self._prover.difference([place])
            # Whatever a swap's layer raises where it is called, the stock one stays.
            except Exception as error:
                reason = f"it does not run in this model: {one_line(error)}"
                self._rows[place.path] = Row(place.path, place.was, None, reason)
                continue
            if holds:
                proved.append(place)
            reason = "the same within the tolerance" if holds else "it computes something else"
            now = place.now if holds else None
            self._rows[place.path] = Row(place.path, place.was, now, reason, difference)
        return proved

    def _together(self, places: list[Place]) -> list[Place]:
        """Those that make no difference together: small ones may add up."""
        while len(places) > 1 and not self._prover.difference(places)[1]:
            worst = max(places, key=lambda place: self._rows[place.path].max_difference or 0.0)
            self._undo(worst, "together with the others it is beyond the tolerance")
            places = [place for place in places if place is not worst]
        return places

    def _undo(self, place: Place, reason: str) -> None:
        self._rows[place.path] = replace(self._rows[place.path], now=None, reason=reason)

    def _paying(self, places: list[Place]) -> tuple[list[Place], bool]:
        """Those that make the model faster, and whether the row-sparse optimizer does."""
        # Alone, and with the same optimizer, a place makes all the difference to the stock model.
        singles = places if len(places) > 1 or self._lazy else []
        without = {p.path: [other for other in places if other is not p] for p in singles}
        times = self._timed({_STOCK: [], **without, _WHOLE: places})
        if not singles:
            times |= {place.path: times[_STOCK] for place in places}
        doubtful = [place for place in places if not self._pays(place, times)]
        if doubtful and singles:
            # Before a good swap is lost to a busy moment: once more, and the better of both counts.
            variants = {_STOCK: [], **{p.path: without[p.path] for p in doubtful}, _WHOLE: places}
            times |= {name: times[name].best(new) for name, new in self._timed(variants).items()}
        paying = [place for place in places if self._pays(place, times)]
        while True:
            if len(paying) < len(places):
                times = self._timed({_STOCK: [], _WHOLE: paying})
            lazy = times[_WHOLE].step < times.setdefault(_KEPT, times[_WHOLE]).step
            if not paying or times[_WHOLE if lazy else _KEPT].pays(times[_STOCK]):
                break
            least = min(paying, key=lambda place: self._rows[place.path].speed_up or 0.0)
            self._undo(least, "with it the model was slower than it had been")
            places, paying = paying, [place for place in paying if place is not least]
        if not paying:
            times[_KEPT] = times[_STOCK]
        self._times = times
        return paying, lazy

    def _pays(self, place: Place, times: dict[str, Times]) -> bool:
        without, whole = times[place.path], times[_WHOLE]
        pays = whole.pays(without)
        row = replace(
            self._rows[place.path],
            now=place.now if pays else None,
            ms_before=without.step,
            ms_after=whole.step,
        )
        said = f"{row.speed_up:.2f}x of a train step, {without.forward / whole.forward:.2f}x of "
        said = f"{said}inference"
        row = replace(row, reason=said if pays else f"it does not pay: {said}")
        self._rows[place.path] = row
        return pays

    def _timed(self, variants: Mapping[str, Sequence[Place]]) -> dict[str, Times]:
        """Times of variants, the whole one with both optimizers if they differ.

        What a swap is worth may hang on the optimizer: a table pays where steps go by its rows.
        """
        candidates = {}
        for name, places in variants.items():
            copy = self._made(places)
            chosen = self._optimizer(copy, self._lazy and name != _STOCK)
            candidates[name] = Candidate(copy, chosen.optimizer)
            if name == _WHOLE and chosen.row is not None and chosen.row.now is not None:
                kept = self._made(places)
                candidates[_KEPT] = Candidate(kept, self._optimizer(kept, False).optimizer)
        jit = compat.is_compiled(self._model) and bool(getattr(self._model, "jit_compile", False))
        return time_all(candidates, self._batch, jit=jit)

    def _optimizer(self, copy: Copy, lazy: bool) -> compiling.Chosen:
        if not compat.is_compiled(self._model):
            return compiling.Chosen(None, None)
        tables = len(self._prover.observe(copy).sparse) if lazy else 0
        return compiling.optimizer_like(self._model.optimizer, lazy=lazy, tables=tables)

    def _compiled(self, copy: Copy, places: Sequence[Place], lazy: bool) -> list[Row]:
        """Compile the copy; rows of its optimizer."""
        trial = self._made(places)
        chosen = self._optimizer(trial, self._lazy)
        rows = [] if chosen.row is None else [chosen.row]
        if rows and rows[0].now is not None and not lazy:
            rows = [replace(rows[0], now=None, reason="the row-sparse form was no faster")]
            chosen = self._optimizer(trial, False)
        anew = compiling.compile_like(self._model, copy, chosen.optimizer)
        if anew:
            reason = f"its state starts anew for {', '.join(anew)}"
            rows.append(Row("optimizer", type(self._model.optimizer).__name__, None, reason))
        return rows
