"""Shared options of the simulators: defaults, and errors for unknown options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from inspect import signature
from typing import Any

from vmmscvi.data._simulate import simulate_counts

DEFAULTS: Mapping[str, Any] = {
    name: parameter.default
    for name, parameter in signature(simulate_counts).parameters.items()
    if name != "seed"
}
#: Options that concern the cells, for all modalities.
CELL_OPTIONS = frozenset(
    {
        "n_cells",
        "n_types",
        "n_subtypes",
        "proportions",
        "exact_proportions",
        "continuum",
        "n_batches",
        "batch_proportions",
        "missing",
    }
)
#: Options that concern one set of features; their number is a separate argument of each simulator.
FEATURE_OPTIONS = frozenset(DEFAULTS) - CELL_OPTIONS - {"n_genes"}
#: Fragments are Poisson given the depth.
DISPERSIONS = frozenset({"dispersion", "dispersion_trend", "dispersion_sd"})


def require_options(where: str, options: Iterable[str], allowed: Iterable[str]) -> None:
    """Raise if ``options`` holds a name that is not in ``allowed``."""
    unknown = sorted(set(options) - set(allowed))
    if unknown:
        raise ValueError(f"{where} holds {unknown}; expected names among {sorted(allowed)}.")
