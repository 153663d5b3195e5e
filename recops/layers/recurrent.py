"""Keras's GRU on the fused op."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from recops._core import compat
from recops._core.compat import keras
from recops.layers.base import OpLayer, build_child, positive, without_newer
from recops.ops.dynamic_gru.api import recurrence
from recops.ops.dynamic_gru.options import Options

# What `keras.layers.GRUCell` is asked and can say in its config.
_OF_THE_CELL = (
    "activation",
    "recurrent_activation",
    "use_bias",
    "kernel_initializer",
    "recurrent_initializer",
    "bias_initializer",
    "kernel_regularizer",
    "recurrent_regularizer",
    "bias_regularizer",
    "kernel_constraint",
    "recurrent_constraint",
    "bias_constraint",
    "dropout",
    "recurrent_dropout",
    "reset_after",
)


@compat.serializable
class GRU(OpLayer):
    """`keras.layers.GRU` on `recops.ops.dynamic_gru`: [B, T, I] -> [B, H].

    Arguments, weights and results are those of the Keras layer, so that weights of one fit the
    other. Unlike it, it leaves XLA on for the model that it stands in, and `training=False` says
    that no gradient is wanted: one is right all the same, but `cpp` computes the forward again.

    The op runs for tanh and sigmoid, with or without dropout of the inputs. Other activations,
    `recurrent_dropout`, `stateful` and the dropout of `implementation=1` run step by step, as
    `keras.layers.RNN` over a `GRUCell`.

    Args:
      units: H.
      activation, recurrent_activation, use_bias, kernel_initializer, recurrent_initializer,
        bias_initializer, kernel_regularizer, recurrent_regularizer, bias_regularizer,
        activity_regularizer, kernel_constraint, recurrent_constraint, bias_constraint, dropout,
        recurrent_dropout, seed, return_sequences, return_state, go_backwards, stateful, unroll,
        reset_after: as in `keras.layers.GRU`. `unroll` matters only step by step.
      use_cudnn: taken and not needed.
      zero_output_for_mask: the output of a masked step is 0, not the last output again.
      implementation: as in `keras.layers.GRUCell`.
      backend: which backend runs the op; None leaves the choice to recops.

    Defaults: activation="tanh", recurrent_activation="sigmoid", use_bias=True,
    kernel_initializer="glorot_uniform", recurrent_initializer="orthogonal",
    bias_initializer="zeros", dropout=0.0, recurrent_dropout=0.0, return_sequences=False,
    return_state=False, go_backwards=False, stateful=False, unroll=False, reset_after=True,
    use_cudnn="auto", zero_output_for_mask=False, implementation=2.

    Call: sequences [B, T, I], float; initial_state [B, H] or a list of it, None is zero; mask
    [B, T] bool, True = keep, in any pattern; training. Returns the last output [B, H] or all
    outputs [B, T, H], with `return_state` also the last state [B, H], in the compute dtype.

    Numerics: the state is float32 under a mixed policy. What is masked, NaN included, changes
    nothing.

    Source: Cho et al., EMNLP 2014.

    Example:
      >>> import numpy as np
      >>> GRU(4, return_sequences=True)(np.ones((2, 5, 3), "float32")).shape
      TensorShape([2, 5, 4])
    """

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        reset_after: bool = True,
        use_cudnn: Any = "auto",
        *,
        zero_output_for_mask: bool = False,
        implementation: int = 2,
        backend: str | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs = without_newer(self, keras.layers.GRU, kwargs)
        super().__init__(backend=backend, activity_regularizer=activity_regularizer, **kwargs)
        positive(self, units=units)
        self.units = units
        self.seed = seed
        self.return_sequences = return_sequences
        self.return_state = return_state
        self.go_backwards = go_backwards
        self.stateful = stateful
        self.unroll = unroll
        self.use_cudnn = use_cudnn
        self.zero_output_for_mask = zero_output_for_mask
        self.implementation = implementation
        self.supports_masking = True
        given = locals()
        cell = keras.layers.GRUCell(
            units,
            seed=seed,
            implementation=implementation,
            name="gru_cell",
            dtype=self.variable_dtype,
            **{name: given[name] for name in _OF_THE_CELL},
        )
        self.rnn = keras.layers.RNN(
            cell,
            return_sequences=return_sequences,
            return_state=True,
            go_backwards=go_backwards,
            stateful=stateful,
            unroll=unroll,
            zero_output_for_mask=zero_output_for_mask,
            name="rnn",
            dtype=self.variable_dtype,
        )
        # One mask a sequence, as the cell's.
        self.input_dropout = keras.layers.SpatialDropout1D(
            cell.dropout, seed=seed, name="input_dropout", dtype=self.dtype_policy
        )

    @property
    def cell(self) -> Any:
        """The `keras.layers.GRUCell` that holds the weights."""
        return self.rnn.cell

    @property
    def fused(self) -> bool:
        """Whether the op can compute this layer."""
        cell = self.cell
        return (
            cell.activation in (keras.activations.tanh, tf.tanh)
            and cell.recurrent_activation in (keras.activations.sigmoid, tf.sigmoid)
            and not cell.recurrent_dropout
            and not (cell.dropout and cell.implementation == 1)
            and not self.stateful
        )

    def build(self, sequences_shape: Any, initial_state_shape: Any = None) -> None:
        build_child(self.rnn, tuple(sequences_shape))
        self.built = True

    def call(
        self, sequences: Any, initial_state: Any = None, mask: Any = None, training: Any = None
    ) -> Any:
        states = [tf.cast(state, self.compute_dtype) for state in _listed(initial_state)]
        kept = None if mask is None else tf.cast(mask, tf.bool)
        if self.fused:
            result = self._at_once(sequences, states, kept, training)
        else:
            result = self._step_by_step(sequences, states, kept, training)
        output, state = (tf.cast(tensor, self.compute_dtype) for tensor in result)
        return (output, state) if self.return_state else output

    def _at_once(self, x: Any, states: list[Any], mask: Any, training: Any) -> tuple[Any, Any]:
        options = Options(
            "gru",
            "paper",
            self.cell.reset_after,
            self.go_backwards,
            self.zero_output_for_mask,
            record=training is not False,
        )
        # Keras 2 casts the weights of a float32 sublayer for nobody.
        weights = (self.cell.kernel, self.cell.recurrent_kernel, self.cell.bias)
        kernel, recurrent_kernel, bias = (
            None if weight is None else tf.cast(weight, self.compute_dtype) for weight in weights
        )
        outputs, state = recurrence(
            # In another dtype where `dtype` is a map of policies.
            tf.cast(self.input_dropout(x, training=training), self.compute_dtype),
            kernel,
            recurrent_kernel,
            bias,
            None,
            mask,
            states[0] if states else None,
            options,
            backend=self.backend or "auto",
        )
        return (outputs if self.return_sequences else outputs[:, -1]), state

    def _step_by_step(self, x: Any, states: list[Any], mask: Any, training: Any) -> tuple[Any, Any]:
        if mask is not None:
            x = tf.where(mask[..., None], x, tf.zeros([], x.dtype))
        output, state = self.rnn(
            tf.cast(x, self.variable_dtype),
            initial_state=[tf.cast(s, self.variable_dtype) for s in states] or None,
            mask=mask,
            training=training,
        )
        return output, state

    @property
    def states(self) -> Any:
        """The state of a stateful layer, in a list."""
        return self.rnn.states

    def get_initial_state(self, *args: Any, **kwargs: Any) -> Any:
        """Zeros to start from, as those of `keras.layers.GRU`."""
        return self.rnn.get_initial_state(*args, **kwargs)

    def reset_state(self) -> None:
        """Set the state of a stateful layer to zero."""
        self.rnn.reset_states()

    reset_states = reset_state

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        kept = tf.nest.flatten(mask)[0] if self.return_sequences else None
        return [kept, None] if self.return_state else kept

    def compute_output_shape(self, sequences_shape: Any, initial_state_shape: Any = None) -> Any:
        batch, steps, _ = tuple(sequences_shape)
        output = (batch, steps, self.units) if self.return_sequences else (batch, self.units)
        return (output, (batch, self.units)) if self.return_state else output

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> GRU:
        """The layer of a config of its own or of `keras.layers.GRU`."""
        config = dict(config)
        if config.pop("time_major", False):  # Keras 2 has it
            raise ValueError("GRU: expected inputs [B, T, I], got a config with time_major=True")
        return super().from_config(config)

    def get_config(self) -> dict[str, Any]:
        cell = self.cell.get_config()
        return {
            **super().get_config(),
            **{name: cell[name] for name in _OF_THE_CELL},
            "units": self.units,
            "activity_regularizer": keras.regularizers.serialize(self.activity_regularizer),
            "seed": self.seed,
            "return_sequences": self.return_sequences,
            "return_state": self.return_state,
            "go_backwards": self.go_backwards,
            "stateful": self.stateful,
            "unroll": self.unroll,
            "use_cudnn": self.use_cudnn,
            "zero_output_for_mask": self.zero_output_for_mask,
            "implementation": self.implementation,
        }


def _of_the_cell(name: str) -> property:
    return property(lambda self: getattr(self.cell, name), doc="That of `cell`.")


# Code that inspects a `keras.layers.GRU` finds here what it does there.
for _name in (*_OF_THE_CELL, "state_size"):
    setattr(GRU, _name, _of_the_cell(_name))


def _listed(states: Any) -> list[Any]:
    return [] if states is None else list(tf.nest.flatten(states))
