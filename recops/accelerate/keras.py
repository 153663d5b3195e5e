"""Swaps of the layers of Keras itself."""

from __future__ import annotations

from recops.accelerate.registry import Swap

SWAPS: tuple[Swap, ...] = ()
