"""The methods that are compared: from raw counts to an embedding, and clusters where a method has them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vmmscvi.benchmark._specs import MethodSpec

if TYPE_CHECKING:
    from anndata import AnnData

REQUIRED_PACKAGE = {"harmony": "harmonypy", "scanorama": "scanorama"}
"""What a kind of method needs that the package does not depend on."""


class NotApplicableError(ValueError):
    """A method that cannot be applied to the data at hand, however it is set."""


@dataclass(frozen=True)
class Decoded:
    """Cluster centres, decoded.

    Parameters
    ----------
    expression
        Mean normalised expression, shape ``(K, n_vars)``; rows sum to one.
    clusters
        Names of the clusters, shape ``(K,)``: those that cells are assigned to.
    """

    expression: NDArray[np.float32]
    clusters: NDArray[np.str_]


@dataclass
class Fit:
    """What a method returns.

    Parameters
    ----------
    z
        Embedding, shape ``(n_obs, p)``.
    clusters
        Name of the cluster of every cell, shape ``(n_obs,)``; ``None`` for methods without clusters.
    cluster_probability
        Probability of that cluster, shape ``(n_obs,)``.
    component_weights
        Mixing weights, shape ``(K,)``.
    history
        What the training logged, a row for each epoch.
    n_epochs
        Epochs trained.
    elbo_validation
        ELBO of the validation cells, nats per cell, at the weights that are used.
    decoded
        Decoded cluster centres.
    """

    z: NDArray[np.float32]
    clusters: NDArray[np.str_] | None = None
    cluster_probability: NDArray[np.float32] | None = None
    component_weights: NDArray[np.float64] | None = None
    history: pd.DataFrame | None = None
    n_epochs: int | None = None
    elbo_validation: float | None = None
    decoded: Decoded | None = None


Fitter = Callable[["AnnData", MethodSpec, int], Callable[[], Fit]]


def check_installed(methods: tuple[MethodSpec, ...]) -> None:
    """Check that the packages that some methods need are installed.

    Raises
    ------
    ValueError
        If one is not.
    """
    missing = {
        method.name: REQUIRED_PACKAGE[method.kind]
        for method in methods
        if method.kind in REQUIRED_PACKAGE and find_spec(REQUIRED_PACKAGE[method.kind]) is None
    }
    if missing:
        needs = ", ".join(f"{name!r} needs {package}" for name, package in missing.items())
        raise ValueError(
            f"Some methods cannot be run: {needs}. Install with `pip install "
            f"{' '.join(sorted(set(missing.values())))}`, or leave them out with `methods` (--methods)."
        )


def fitter(kind: str) -> Fitter:
    """Return what trains methods of a kind, with all libraries imported.

    It takes counts as from :func:`vmmscvi.benchmark._data.load_dataset` (to which scvi-tools adds marks), the
    method and the seed of everything random. It only trains, so that the caller can measure that; what it
    returns reads the results off the trained model.
    """
    if kind in ("scvi_vmm", "scvi", "sysvi"):
        from vmmscvi.benchmark import _scvi_methods

        return _scvi_methods.fit
    from vmmscvi.benchmark import _linear_methods

    if kind in REQUIRED_PACKAGE:
        import_module(REQUIRED_PACKAGE[kind])
    return _linear_methods.fit
