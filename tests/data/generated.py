"""Rows in Criteo's form, drawn at random: a tool of tests and benches, no data of anyone.

python -m tests.data.generated FILE --rows N [--values N]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

_BLOCK = 50_000


def write(path: Path, rows: int, values: int = 1000, seed: int = 0) -> Path:
    """A file of so many lines, with at most so many values of each category.

    Values are skewed as real ones are, and two categories tell something of the click.
    """
    random = np.random.default_rng(seed)
    with path.open("w", encoding="ascii") as file:
        for start in range(0, rows, _BLOCK):
            size = min(_BLOCK, rows - start)
            ids = (values * random.random((size, 26)) ** 3).astype(np.int64)
            chance = 1 / (1 + np.exp(1 - 2 * (ids[:, 0] % 3) + 2 * (ids[:, 1] % 2)))
            clicks = random.random(size) < chance
            numbers = random.integers(0, 200, (size, 13))
            missing = random.random((size, 13)) < 0.1
            for i in range(size):
                cells = ["" if m else str(n) for n, m in zip(numbers[i], missing[i])]
                hexes = ["%08x" % (2654435761 * n % 2**32) for n in ids[i].tolist()]
                file.write("\t".join([str(int(clicks[i])), *cells, *hexes]) + "\n")
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--values", type=int, default=1000)
    asked = parser.parse_args()
    write(asked.file, asked.rows, asked.values)
