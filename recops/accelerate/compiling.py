"""The copy compiled as the model is, and its optimizer where the model's stands."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from recops._core import compat
from recops._core.compat import keras
from recops.accelerate.copying import Copy
from recops.accelerate.proving import as_array
from recops.accelerate.report import Row
from recops.optimizers import LazyAdagrad, LazyAdam, LazyFTRL

MODES = ("lazy", "keep")
# Optimizers of Keras whose step of a number depends on the other numbers of its weight.
_BY_WEIGHT = ("Lamb", "Adafactor", "Muon")
_STAYS = {
    LazyAdam: "rows that are not in a batch stay where they are, and their moments with them",
    LazyAdagrad: "the same steps, of the rows in a batch alone",
    LazyFTRL: "rows stay where they are until a batch has them",
}


class Chosen(NamedTuple):
    """A new optimizer without state, and the row of the report where there is one."""

    optimizer: Any
    row: Row | None


def optimizer_like(old: Any, *, lazy: bool, tables: int) -> Chosen:
    """An optimizer like another, or its row-sparse form.

    Args:
      old: the stock model's.
      lazy: whether the row-sparse form is wanted.
      tables: how many weights have gradients of rows.
    """
    inner = _inner(old)
    if inner is not old and lazy:
        chosen = optimizer_like(inner, lazy=lazy, tables=tables)
        return Chosen(_around(old, chosen.optimizer), chosen.row)
    lazily = _lazy_form(old) if lazy else None
    if lazily is None:
        return Chosen(_same(old), None)
    was = type(old).__name__
    reason = _why_not_lazy(old, tables)
    if reason is None:
        try:
            made, reason = _made_lazy(old, lazily), _STAYS[lazily]
        except (ValueError, TypeError) as error:
            return Chosen(_same(old), Row("optimizer", was, None, str(error)))
        now = f"recops.optimizers.{lazily.__name__}"
        return Chosen(
            made,
            Row("optimizer", was, now, f"{reason} ({tables} table{'s' if tables > 1 else ''})"),
        )
    return Chosen(_same(old), Row("optimizer", was, None, reason))


def _lazy_form(old: Any) -> Any:
    optimizers = keras.optimizers
    forms = {optimizers.Adam: LazyAdam, optimizers.Adagrad: LazyAdagrad, optimizers.Ftrl: LazyFTRL}
    return forms.get(type(old))


def _why_not_lazy(old: Any, tables: int) -> str | None:
    if not tables:
        return (
            "no gradient is of rows: there is no table, or its penalty moves every row in each step"
        )
    if old.weight_decay:
        return "its weight decay moves every row in each step"
    if getattr(old, "l2_shrinkage_regularization_strength", 0):
        return "its l2 shrinkage has no row-sparse form"
    return None


def why_not_joined(optimizer: Any) -> str | None:
    """Why weights that an optimizer moves may not become one weight, or None."""
    inner = _inner(optimizer)
    if getattr(inner, "clipnorm", None) is not None:
        return "clipnorm clips the gradient of each weight by itself, and it joins several in one"
    if type(inner).__name__ in _BY_WEIGHT:
        return f"a step of {type(inner).__name__} is of a whole weight, and it joins several in one"
    return None


def _same(old: Any) -> Any:
    """A new optimizer of the same class and options."""
    return type(old).from_config(_config(old))


def _around(old: Any, inner: Any) -> Any:
    """A new `LossScaleOptimizer` of another's options."""
    config = old.get_config()
    options = ("initial_scale", "dynamic_growth_steps", "dynamic")
    return type(old)(inner, **{name: config[name] for name in options if name in config})


def _config(old: Any) -> dict[str, Any]:
    config = dict(old.get_config())
    rate = getattr(old, "_learning_rate", None)
    if callable(rate) and not hasattr(rate, "assign"):
        # A schedule or a function, which a config may not be able to say.
        config["learning_rate"] = rate
    return config


def _made_lazy(old: Any, lazily: Any) -> Any:
    config = _config(old)
    renamed = {"l1_regularization_strength": "l1", "l2_regularization_strength": "l2"}
    config.pop("l2_shrinkage_regularization_strength", None)
    config = {renamed.get(name, name): value for name, value in config.items()}
    # Without one Keras 2 takes a default of its own, and ours refuses True.
    config.pop("jit_compile", None)
    return lazily(**config)


def compile_like(model: Any, copy: Copy, optimizer: Any) -> list[str]:
    """Compile a copy with the model's loss and metrics, and carry the optimizer's state over.

    Returns: the paths of the weights whose state starts anew.
    """
    arguments = compat.compile_arguments(model)
    arguments["optimizer"] = optimizer
    for name in ("metrics", "weighted_metrics"):
        arguments[name] = tf.nest.map_structure(_fresh, arguments.get(name))
    copy.model.compile(**arguments)
    return carry_state(model.optimizer, copy)


def _fresh(metric: Any) -> Any:
    """A metric has state, which belongs to one model."""
    if isinstance(metric, keras.metrics.Metric):
        return type(metric).from_config(metric.get_config())
    return metric


def carry_state(old: Any, copy: Copy) -> list[str]:
    """Set the optimizer of a copy to where the model's stands."""
    new = copy.model.optimizer
    if not hasattr(new, "build"):
        # The legacy ones of tf_keras make their slots as they step.
        return sorted(compat.path_of(weight) for weight in copy.model.trainable_variables)
    new.build(copy.model.trainable_variables)
    if not compat.is_built(old):
        return []
    old_slots, new_slots = _slots(old), _slots(new)
    _copy_counters(old, old_slots, new, new_slots)
    anew: list[str] = []
    for each in copy.carried:
        place = _place(new, each.new)
        places = [_place(old, variable) for variable in each.old]
        if place is None:
            continue
        for name, slots in new_slots.items():
            values = [
                as_array(old_slots[name][at]) if at is not None and name in old_slots else None
                for at in places
            ]
            if not _carried(slots[place], each, values):
                anew.append(compat.path_of(each.new))
    return sorted(set(anew))


def _carried(slot: Any, carried: Any, values: list[Any]) -> bool:
    """Set a slot from those of the old weights, where they have the weights' shapes."""
    if any(value is None for value in values):
        return False
    shaped = all(v.shape == tuple(old.shape) for v, old in zip(values, carried.old))
    if shaped:
        value = carried.arrange(values)
    elif len(values) == 1 and values[0].shape == tuple(slot.shape):
        value = values[0]
    else:
        return False
    if np.shape(value) != tuple(slot.shape):
        return False
    slot.assign(value)
    return True


def _inner(optimizer: Any) -> Any:
    return getattr(optimizer, "inner_optimizer", optimizer)


def _place(optimizer: Any, variable: Any) -> int | None:
    try:
        return compat.slot_index(_inner(optimizer), variable)
    except (KeyError, ValueError):
        return None


def _slots(optimizer: Any) -> dict[str, list[Any]]:
    """Lists of an optimizer that hold something for each weight, by attribute."""
    inner = _inner(optimizer)
    count = len(compat.slot_indices(inner))
    state = {id(variable) for variable in compat.variables_of(inner)}
    return {
        name: list(value)
        for name, value in vars(inner).items()
        if isinstance(value, (list, tuple))
        and len(value) == count > 0
        and all(id(each) in state for each in value)
    }


def _copy_counters(old: Any, old_slots: Any, new: Any, new_slots: Any) -> None:
    """Steps, learning rate, and whatever there is once."""
    one, other = (
        _without(optimizer, slots) for optimizer, slots in ((old, old_slots), (new, new_slots))
    )
    for before, after in zip(one, other):
        if tuple(before.shape) == tuple(after.shape):
            after.assign(as_array(before))


def _without(optimizer: Any, slots: dict[str, list[Any]]) -> list[Any]:
    taken = {id(each) for listed in slots.values() for each in listed}
    return [each for each in compat.variables_of(optimizer) if id(each) not in taken]
