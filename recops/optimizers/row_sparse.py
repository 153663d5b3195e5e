"""What the row-sparse optimizers share: a Keras optimizer that hands sparse gradients to one op."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from recops import ops
from recops._core import compat
from recops._core.numerics import widened

# Arguments of Keras's optimizers that read or write the whole table in each step.
_REFUSED = {
    "use_ema": "an average of the weights moves every row in every step",
    "ema_overwrite_frequency": "an average of the weights moves every row in every step",
    "gradient_accumulation_steps": "Keras accumulates in a buffer of the table's size; take larger "
    "batches",
    "loss_scale_factor": "Keras divides gradients as dense ones; wrap the optimizer in "
    "keras.optimizers.LossScaleOptimizer",
    "amsgrad": "row-sparse steps have no maximum of past moments",
    "jit_compile": "compile the whole step by model.compile(jit_compile=True)",
}
_IGNORED = ("ema_momentum", "is_legacy_optimizer")
# What a class puts `RowSparse` before; for a type checker, anything.
_Optimizer: Any = object


def check_arguments(name: str, given: Mapping[str, Any]) -> None:
    """Refuse what Keras's optimizers take besides, in one sentence; their defaults pass."""
    for argument, value in given.items():
        if argument in _REFUSED and value:
            raise ValueError(f"{name}: {argument}={value!r} is refused: {_REFUSED[argument]}")
        if argument not in _REFUSED and argument not in _IGNORED:
            raise TypeError(f"{name}: unexpected argument {argument!r}")


class RowSparse(_Optimizer):
    """Put before a Keras optimizer: dense gradients are its own, sparse ones move their rows alone.

    A class names its `rule` of `recops.ops.row_update`, the slots and the numbers of a variable.
    """

    rule: str
    catch_up = False

    def _slots(self, index: int) -> list[Any]:
        raise NotImplementedError

    def _numbers(self) -> dict[str, Any]:
        raise NotImplementedError

    def update_step(self, gradient: Any, variable: Any, *learning_rate: Any) -> None:
        """One step of one variable; Keras 3 brings the learning rate, Keras 2 does not."""
        rate = learning_rate[0] if learning_rate else self.learning_rate
        decays = bool(self.weight_decay) and self._use_weight_decay(variable)
        index = compat.slot_index(self, variable)
        if not isinstance(gradient, tf.IndexedSlices):
            if decays:
                factor = tf.cast(rate, variable.dtype) * self.weight_decay
                variable.assign_sub(variable * tf.cast(factor, variable.dtype))
            self._dense_step(index, gradient, variable, *learning_rate)
            return
        if compat.constraint_of(self, variable) is not None:
            raise ValueError(
                f"{type(self).__name__}: the variable {variable.name!r} {list(variable.shape)} has "
                f"a constraint, which reads and writes the whole table; leave the constraint out"
            )
        ops.row_update(
            variable,
            self._slots(index),
            gradient.indices,
            gradient.values,
            rule=self.rule,
            learning_rate=rate,
            step=self.iterations + 1,
            weight_decay=self.weight_decay if decays else None,
            catch_up=self.catch_up,
            **self._numbers(),
        )

    def _dense_step(self, index: int, gradient: Any, variable: Any, *rate: Any) -> None:
        super().update_step(gradient, variable, *rate)

    def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
        """Nothing here: it is part of a variable's step, which knows the rows that are used."""

    def _deduplicate_sparse_grad(self, grads: Sequence[Any]) -> Sequence[Any]:
        """Keras 2 merges slices before it clips; here `_clip_gradients` or the update does."""
        return grads

    def _clip_gradients(self, grads: Sequence[Any]) -> Sequence[Any]:
        if not (self.clipnorm or self.clipvalue or self.global_clipnorm):
            return grads
        merged = [_merged(gradient) for gradient in grads]
        if self.global_clipnorm:
            return tf.clip_by_global_norm(merged, self.global_clipnorm)[0]
        if self.clipnorm:
            return [g if g is None else tf.clip_by_norm(g, self.clipnorm) for g in merged]
        limit = self.clipvalue
        return [g if g is None else tf.clip_by_value(g, -limit, limit) for g in merged]

    def load_own_variables(self, store: Any) -> None:
        """Keras would warn, skip a state that does not fit, and train on from zero."""
        if len(store.keys()) != len(compat.variables_of(self)):
            raise ValueError(
                f"{type(self).__name__}: the saved state has {len(store.keys())} variables and "
                f"this optimizer {len(compat.variables_of(self))}; load it into one built with the "
                f"same arguments for the same weights"
            )
        super().load_own_variables(store)

    def get_config(self) -> dict[str, Any]:
        """Keras's configuration without the arguments that are refused."""
        config = super().get_config()
        return {k: v for k, v in config.items() if k not in _REFUSED and k not in _IGNORED}


def _merged(gradient: Any) -> Any:
    """A sparse gradient whose norm is that of the dense one: an id's slices are one."""
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    # Sums of 16-bit slices would be rounded once more.
    (values,) = widened(gradient.values)
    sums = ops.row_sums(gradient.indices, values)
    return tf.IndexedSlices(sums, gradient.indices, gradient.dense_shape)
