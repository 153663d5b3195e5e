"""Steps of the row-sparse optimizers by NumPy, one row after the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def row_update(
    table: np.ndarray,
    slots: Sequence[np.ndarray],
    ids: np.ndarray,
    values: np.ndarray,
    rule: str,
    learning_rate: float,
    step: int = 1,
    weight_decay: float = 0.0,
    catch_up: bool = False,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-7,
    learning_rate_power: float = -0.5,
    l1: float = 0.0,
    l2: float = 0.0,
    beta: float = 0.0,
) -> list[np.ndarray]:
    table, *slots = (np.array(array) for array in (table, *slots))
    for r in sorted(set(ids.tolist())):
        g = sum(values[n] for n in range(len(ids)) if ids[n] == r)
        w = table[r] * (1 - learning_rate * weight_decay)
        if rule == "adam":
            m, v = slots[0][r], slots[1][r]
            if catch_up:
                last = slots[2][r]
                for _ in range(last + 1, step) if last else ():
                    m, v = beta_1 * m, beta_2 * v
                slots[2][r] = step
            slots[0][r] = m = beta_1 * m + (1 - beta_1) * g
            slots[1][r] = v = beta_2 * v + (1 - beta_2) * g**2
            rate = learning_rate * np.sqrt(1 - beta_2**step) / (1 - beta_1**step)
            table[r] = w - rate * m / (np.sqrt(v) + epsilon)
        elif rule == "adagrad":
            slots[0][r] += g**2
            table[r] = w - learning_rate * g / np.sqrt(slots[0][r] + epsilon)
        elif rule == "rowwise_adagrad":
            slots[0][r] += np.mean(g**2)
            table[r] = w - learning_rate * g / np.sqrt(slots[0][r] + epsilon)
        else:
            n, z = slots[0][r], slots[1][r]
            after = n + g**2
            sigma = (after**-learning_rate_power - n**-learning_rate_power) / learning_rate
            z = z + g - sigma * w
            slots[0][r], slots[1][r] = after, z
            quadratic = (after**-learning_rate_power + beta) / learning_rate + 2 * l2
            table[r] = np.where(np.abs(z) <= l1, 0.0, (np.sign(z) * l1 - z) / quadratic)
    return [table, *slots]


def row_sums(ids: np.ndarray, values: np.ndarray) -> np.ndarray:
    out = np.zeros_like(values)
    for n, r in enumerate(ids):
        out[list(ids).index(r)] += values[n]
    return out


ORACLES = {"row_update": row_update, "row_sums": row_sums}
