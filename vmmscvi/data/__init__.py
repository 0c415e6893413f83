"""Data for examples, tests and benchmarks: simulators of labelled counts, independent of any model."""

from __future__ import annotations

from vmmscvi.data._cite import simulate_cite
from vmmscvi.data._multiome import simulate_multiome
from vmmscvi.data._peaks import simulate_peaks
from vmmscvi.data._presets import simulate_preset
from vmmscvi.data._simulate import simulate_counts

__all__ = ["simulate_cite", "simulate_counts", "simulate_multiome", "simulate_peaks", "simulate_preset"]
