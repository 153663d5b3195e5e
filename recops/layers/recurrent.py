"""Recurrent layers: Keras's GRU on the fused op, and the GRU whose gates an attention steers."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from recops import ops
from recops._core import checks, compat
from recops._core.compat import keras
from recops.layers.base import OpLayer, build_child, kept, positive
from recops.ops.dynamic_gru.options import AUGRU_FORMS, GRU_TYPES

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
    other. Unlike it, it leaves XLA on for the model that it stands in.

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

    def build(self, input_shape: Any) -> None:
        build_child(self.rnn, tuple(input_shape))
        self.built = True

    def call(
        self, sequences: Any, initial_state: Any = None, mask: Any = None, training: Any = False
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
        outputs, state = ops.dynamic_gru(
            self.input_dropout(x, training=training),
            self.cell.kernel,
            self.cell.recurrent_kernel,
            self.cell.bias if self.cell.use_bias else None,
            mask=mask,
            initial_state=states[0] if states else None,
            reset_after=self.cell.reset_after,
            go_backwards=self.go_backwards,
            zero_output_for_mask=self.zero_output_for_mask,
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


def _listed(states: Any) -> list[Any]:
    return [] if states is None else list(tf.nest.flatten(states))


@compat.serializable
class DynamicGRU(OpLayer):
    """GRU, AIGRU, AGRU or AUGRU over a sequence: [B, T, I] -> [B, T, H].

    See `recops.ops.dynamic_gru` for the formulas.

    Args:
      units: H; None is I.
      gru_type: "gru", or with attention "aigru" (scales the input), "agru" (the score is the gate)
        or "augru" (the score scales the gate).
      augru_form: of AUGRU, "paper" or "alibaba", the form of the authors' code. They are different
        functions: a score of 0 keeps the state in the one and is a plain GRU in the other.
      return_sequences: all outputs; otherwise the last state [B, H].
      return_state: also return the last state.
      reset_after: apply the reset gate after the product with the state, as `keras.layers.GRU`
        does. The TF1 cell that DIEN is written with applies it before.
      go_backwards: process the last step first; outputs stand in the order of processing.
      zero_output_for_mask: the output of a masked step is 0, not the last output again.
      use_bias, kernel_initializer, recurrent_initializer, bias_initializer, kernel_regularizer,
        recurrent_regularizer: as in `keras.layers.GRU`.
      backend: which backend runs; None leaves the choice to recops.

    Defaults: gru_type="gru", augru_form="paper", return_sequences=True, return_state=False,
    reset_after=False, go_backwards=False, zero_output_for_mask=True, use_bias=True,
    kernel_initializer="glorot_uniform", recurrent_initializer="orthogonal",
    bias_initializer="zeros".

    Call: x [B, T, I], float; attention [B, T] scores in [0, 1], for all types but "gru"; mask
    [B, T] bool, True = keep, in any pattern: a masked step copies the state; initial_state [B, H].
    Returns outputs [B, T, H] in the compute dtype, or (outputs, state [B, H]) with `return_state`.

    Source: Cho et al., EMNLP 2014; Zhou et al., Deep Interest Evolution Network, AAAI 2019.

    Example:
      >>> import numpy as np
      >>> x, scores = np.ones((2, 5, 3), "float32"), np.ones((2, 5), "float32")
      >>> DynamicGRU(gru_type="augru", return_sequences=False)(x, scores).shape
      TensorShape([2, 3])
    """

    def __init__(
        self,
        units: int | None = None,
        gru_type: str = "gru",
        augru_form: str = "paper",
        return_sequences: bool = True,
        return_state: bool = False,
        reset_after: bool = False,
        go_backwards: bool = False,
        zero_output_for_mask: bool = True,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        *,
        backend: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(backend=backend, **kwargs)
        if units is not None:
            positive(self, units=units)
        self.units = units
        self.gru_type = checks.choice("DynamicGRU", "gru_type", gru_type, GRU_TYPES)
        self.augru_form = checks.choice("DynamicGRU", "augru_form", augru_form, AUGRU_FORMS)
        self.return_sequences = return_sequences
        self.return_state = return_state
        self.reset_after = reset_after
        self.go_backwards = go_backwards
        self.zero_output_for_mask = zero_output_for_mask
        self.use_bias = use_bias
        self.supports_masking = True
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.recurrent_initializer = keras.initializers.get(recurrent_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.recurrent_regularizer = keras.regularizers.get(recurrent_regularizer)

    def build(self, input_shape: Any) -> None:
        width = input_shape[-1]
        units = self.units or width
        self.kernel = self.add_weight(
            name="kernel",
            shape=(width, 3 * units),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
        )
        self.recurrent_kernel = self.add_weight(
            name="recurrent_kernel",
            shape=(units, 3 * units),
            initializer=self.recurrent_initializer,
            regularizer=self.recurrent_regularizer,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(2, 3 * units) if self.reset_after else (3 * units,),
                initializer=self.bias_initializer,
            )
        self.built = True

    def call(
        self, x: Any, attention: Any = None, mask: Any = None, initial_state: Any = None
    ) -> Any:
        mask = kept(mask, x)
        cast = [None if a is None else tf.cast(a, x.dtype) for a in (attention, initial_state)]
        outputs, state = ops.dynamic_gru(
            x,
            self.kernel,
            self.recurrent_kernel,
            self.bias,
            cast[0],
            mask,
            cast[1],
            self.gru_type,
            self.augru_form,
            self.reset_after,
            self.go_backwards,
            self.zero_output_for_mask,
            backend=self.backend or "auto",
        )
        output = outputs if self.return_sequences else state
        return (output, state) if self.return_state else output

    compute_mask = GRU.compute_mask

    def compute_output_shape(self, x_shape: Any, *_: Any, **__: Any) -> Any:
        batch, steps, width = tuple(x_shape)
        units = self.units or width
        output = (batch, steps, units) if self.return_sequences else (batch, units)
        return (output, (batch, units)) if self.return_state else output

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "gru_type": self.gru_type,
            "augru_form": self.augru_form,
            "return_sequences": self.return_sequences,
            "return_state": self.return_state,
            "reset_after": self.reset_after,
            "go_backwards": self.go_backwards,
            "zero_output_for_mask": self.zero_output_for_mask,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "recurrent_initializer": keras.initializers.serialize(self.recurrent_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "recurrent_regularizer": keras.regularizers.serialize(self.recurrent_regularizer),
        }
