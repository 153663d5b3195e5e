"""The rules by which a row moves: what each keeps, and the numbers that one step needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tensorflow as tf


@dataclass(frozen=True)
class Rule:
    """An optimizer's rule.

    `slots` names its arrays like the table, `row_slots` those of one number a row; `options` are
    its numbers with their defaults.
    """

    slots: tuple[str, ...]
    row_slots: tuple[str, ...]
    options: Mapping[str, float]
    flops: int  # a number of a used row


RULES: dict[str, Rule] = {
    "adam": Rule(("m", "v"), (), {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}, 14),
    "adagrad": Rule(("accumulator",), (), {"epsilon": 1e-7}, 7),
    "rowwise_adagrad": Rule((), ("accumulator",), {"epsilon": 1e-7}, 5),
    "ftrl": Rule(
        ("accumulator", "linear"),
        (),
        {"learning_rate_power": -0.5, "l1": 0.0, "l2": 0.0, "beta": 0.0},
        16,
    ),
}

# The step in which a row was last used, for moments that decay by the steps in between.
LAST = "last"


def slots_of(rule: str, catch_up: bool) -> tuple[str, ...]:
    """Names of what is kept beside the table, in the order of the arguments."""
    found = RULES[rule]
    return (*found.slots, *found.row_slots, *((LAST,) if catch_up else ()))


def scalars(
    rule: str,
    learning_rate: Any,
    step: Any,
    weight_decay: Any,
    options: Mapping[str, Any],
    catch_up: bool,
) -> tf.Tensor:
    """What a step needs beside arrays, as float64: 0.999^t differs from 1 in the last digits.

    First what a used row is multiplied by, then the rule's own numbers, and the step if moments
    catch up.
    """
    rate = _wide(learning_rate)
    given = {name: _wide(value) for name, value in options.items()}
    numbers = [1 - rate * _wide(weight_decay or 0.0)]
    if rule == "adam":
        count = _wide(step)
        unbiased = tf.sqrt(1 - given["beta_2"] ** count) / (1 - given["beta_1"] ** count)
        # Not the betas: in float32 what is left of them to 1 would be off in the fifth digit.
        numbers += [rate * unbiased, 1 - given["beta_1"], 1 - given["beta_2"], given["epsilon"]]
    else:
        numbers += [rate, *given.values()]
    if catch_up:
        numbers.append(_wide(step))
    return tf.stack(numbers)


def _wide(number: Any) -> tf.Tensor:
    if isinstance(number, (int, float)):
        # A cast would take it through float32 first.
        return tf.constant(number, tf.float64)
    return tf.cast(number, tf.float64)
