"""The layer of the GRU whose gates an attention steers."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from recops._core import checks, compat
from recops._core.compat import keras
from recops.layers.base import OpLayer, kept, positive
from recops.layers.recurrent import GRU
from recops.ops.dynamic_gru.api import recurrence
from recops.ops.dynamic_gru.options import AUGRU_FORMS, GRU_TYPES, Options


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
    [B, T] bool, True = keep, in any pattern: a masked step copies the state; initial_state [B, H];
    training, where False says that no gradient is wanted: one is right all the same, but `cpp`
    computes the forward again for it. Returns outputs [B, T, H] in the compute dtype, or (outputs,
    state [B, H]) with `return_state`.

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
        self,
        x: Any,
        attention: Any = None,
        mask: Any = None,
        initial_state: Any = None,
        training: Any = None,
    ) -> Any:
        mask = kept(mask, x)
        cast = [None if a is None else tf.cast(a, x.dtype) for a in (attention, initial_state)]
        outputs, state = recurrence(
            x,
            self.kernel,
            self.recurrent_kernel,
            self.bias,
            cast[0],
            mask,
            cast[1],
            Options(
                self.gru_type,
                self.augru_form,
                self.reset_after,
                self.go_backwards,
                self.zero_output_for_mask,
                record=training is not False,
            ),
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
