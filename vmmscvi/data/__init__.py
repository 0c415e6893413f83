"""Data for examples, tests and benchmarks: a simulator of labelled counts. Nothing here knows a model."""

from __future__ import annotations

from vmmscvi.data._presets import simulate_preset
from vmmscvi.data._simulate import simulate_counts

__all__ = ["simulate_counts", "simulate_preset"]
