"""What a trained model says of its cells, in the form in which it is stored."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vmmscvi import __version__
from vmmscvi.model import SCVI_VMM
from vmmscvi.priors import MixturePrior

EMBEDDING = "X_vmm"
CLUSTER = "vmm_cluster"
PROBABILITY = "vmm_cluster_probability"
LEAF = "vmm_leaf"
UNS = "vmmscvi"

LIBRARIES = ("scvi-tools", "torch", "lightning", "anndata", "scanpy", "numpy")


@dataclass(frozen=True)
class Results:
    """Results for ``n`` cells: the embedding and, of a mixture, the clusters."""

    embedding: NDArray[np.float32]
    """Posterior means, shape ``(n, p)``; stored in ``obsm["X_vmm"]``."""
    clusters: pd.Categorical | None
    """Most probable component of each cell; stored in ``obs["vmm_cluster"]``."""
    probability: NDArray[np.float32] | None
    """Its probability, shape ``(n,)``; stored in ``obs["vmm_cluster_probability"]``."""
    uns: Mapping[str, Any]
    """Settings, versions, weights, history and the tree of the clusters; stored in ``uns["vmmscvi"]``."""
    leaves: pd.Categorical | None = None
    """Leaf of the tree of the clusters of each cell; stored in ``obs["vmm_leaf"]``."""

    @property
    def n_clusters(self) -> int:
        """Number of clusters that some cell is assigned to; 0 without a mixture."""
        return 0 if self.clusters is None else len(self.clusters.categories)

    def columns(self) -> dict[str, pd.Categorical | NDArray[np.float32]]:
        """Return the columns of ``obs`` by name."""
        columns = {CLUSTER: self.clusters, PROBABILITY: self.probability, LEAF: self.leaves}
        return {name: values for name, values in columns.items() if values is not None}


def results_of(model: SCVI_VMM, settings: Mapping[str, Any]) -> Results:
    """Collect the results of a trained model on its own data.

    Parameters
    ----------
    model
        The trained model.
    settings
        What it was made with, to be stored; entries that are ``None`` are left out.

    Returns
    -------
    The results. Without a mixture (prior N(0, I)), clusters and probabilities are ``None``.
    """
    # some quantities are not logged in every epoch: NaN elsewhere keeps the epochs in step
    history = pd.concat([table.iloc[:, 0] for table in model.history.values()], axis=1, keys=model.history)
    history = history.sort_index().astype(np.float64)
    uns: dict[str, Any] = {
        "settings": {name: value for name, value in settings.items() if value is not None},
        "versions": versions(),
        "history": {name: history[name].to_numpy() for name in history},
        "n_epochs": len(history),
    }
    embedding = np.asarray(model.get_latent_representation(), dtype=np.float32)
    if not isinstance(model.module.latent_prior, MixturePrior):
        return Results(embedding, None, None, uns)
    probabilities = model.get_cluster_probabilities()
    clusters = pd.Categorical(model.predict())
    weights = model.get_cluster_weights()
    uns["weights"] = {name: float(weights[name]) for name in clusters.categories}
    tree = model.get_cluster_tree()
    uns["cluster_tree"] = tree.to_dict()
    probability = probabilities.to_numpy(np.float32).max(axis=1)
    return Results(embedding, clusters, probability, uns, pd.Categorical(tree.assignments))


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that results depend on."""
    found = {name: version(name) for name in LIBRARIES}
    return {"vmmscvi": __version__, "python": platform.python_version(), **found}
