"""Swaps of the layers of keras-rs."""

from __future__ import annotations

from recops.accelerate.registry import Swap

SWAPS: tuple[Swap, ...] = ()
