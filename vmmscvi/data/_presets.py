"""Named simulated data sets, shared by tests and benchmarks."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from anndata import AnnData

from vmmscvi.data._simulate import simulate_counts

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "well_separated": {
            "n_types": 6,
            "proportions": "equal",
            "marker_log_fold_change": 2.2,
            "type_effect": 0.5,
            "n_batches": 2,
            "batch_effect": 0.1,
        },
        "nested_rare": {
            "n_cells": 10_000,
            "n_types": 6,
            "n_subtypes": {"type0": 3, "type1": 2},
            "proportions": {"type5": 0.005},
            "n_batches": 2,
            "batch_effect": 0.2,
        },
        "strong_batch": {
            "n_cells": 4000,
            "n_types": 6,
            "n_batches": 4,
            "batch_effect": 0.6,
            "missing": {"batch1": ["type3"]},
        },
        "many_types": {"n_cells": 12_000, "n_types": 40},
        "single_type": {"n_types": 1, "n_batches": 1},
        # The first and last state have half a stretch of the path: half the cells keep the density even.
        "continuum": {
            "n_types": 5,
            "n_batches": 1,
            "proportions": (0.125, 0.25, 0.25, 0.25, 0.125),
            "continuum": True,
        },
    }
)


def simulate_preset(name: str, *, seed: int | np.random.Generator = 0, **overrides: Any) -> AnnData:
    """Simulate one of the named data sets.

    Parameters
    ----------
    name
        - ``"well_separated"``: six types of equal size that any method should find; two batches that hardly
          differ.
        - ``"nested_rare"``: 10,000 cells of six types in two batches; two of the types split into three and
          two subtypes, and a type of exactly 0.5% (50 cells).
        - ``"strong_batch"``: six types in four batches that differ more than many types do; one type is
          missing in one batch.
        - ``"many_types"``: 12,000 cells of forty types of random sizes in three batches.
        - ``"single_type"``: one type in one batch, with nothing to cluster.
        - ``"continuum"``: cells spread evenly on a path through five states in one batch, with structure but
          no clusters.
    seed
        As in :func:`simulate_counts`.
    **overrides
        Arguments of :func:`simulate_counts` that replace those of the preset.

    Returns
    -------
    AnnData
        Annotated data as from :func:`simulate_counts`.

    Raises
    ------
    ValueError
        If there is no preset of this name, or an argument has an impossible value.
    """
    if name not in PRESETS:
        raise ValueError(f"name is {name!r}; expected one of {sorted(PRESETS)}.")
    return simulate_counts(**{**PRESETS[name], **overrides}, seed=seed)
