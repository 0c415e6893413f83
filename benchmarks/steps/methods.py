"""The methods that are compared: from raw counts to an embedding, and clusters where a method has them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from data import BATCH, normalized


@dataclass
class Fit:
    """Result of a method; of ``n`` cells."""

    z: np.ndarray
    """Embedding, shape ``(n, p)``."""

    obs: dict[str, np.ndarray] = field(default_factory=dict)
    """``cluster`` and ``cluster_probability`` of each cell, of methods that have them."""

    run: dict[str, float] = field(default_factory=dict)
    """Measures of the training."""

    history: pd.DataFrame = field(default_factory=pd.DataFrame)
    decoded: pd.DataFrame | None = None
    """Mean normalised expression of the clusters' centres, clusters x genes; rows sum to one."""


def scvi_models(adata: AnnData, seed: int, kind: str, model: dict[str, Any], train: dict[str, Any]) -> Fit:
    """Train ``SCVI_VMM``, ``SCVI`` or ``SysVI``.

    The seed is set right before a model is built: models of one seed have the same split into training and
    validation cells and the same initial weights, whatever the prior.
    """
    import scvi
    from scvi.external import SysVI

    from vmmscvi import SCVI_VMM

    if kind == "sysvi":
        adata = normalized(adata)
    model_class: Any = {"scvi_vmm": SCVI_VMM, "scvi": scvi.model.SCVI, "sysvi": SysVI}[kind]
    model_class.setup_anndata(adata, batch_key=BATCH)
    scvi.settings.seed = seed
    fitted = model_class(adata, **model)
    fitted.train(**{"enable_progress_bar": False, "check_val_every_n_epoch": 1, **train})
    scvi.settings.seed = seed  # of the ELBO's sample
    logged = {name: table.iloc[:, 0] for name, table in (fitted.history or {}).items() if len(table)}
    history = pd.DataFrame({name: pd.to_numeric(column) for name, column in logged.items()})
    found = Fit(np.asarray(fitted.get_latent_representation()), history=history)
    found.run["n_epochs"] = len(history)
    # SysVI's likelihood is of normalised values and cannot be compared
    if kind != "sysvi" and fitted.validation_indices is not None and len(fitted.validation_indices):
        found.run["elbo_validation"] = float(fitted.get_elbo(indices=fitted.validation_indices))
    if kind == "scvi_vmm":
        _add_clusters(fitted, found)
    return found


def _add_clusters(model: Any, found: Fit) -> None:
    from vmmscvi.priors import MixturePrior

    if not isinstance(model.module.latent_prior, MixturePrior):
        return
    probabilities = model.get_cluster_probabilities()
    found.obs = {
        "cluster": probabilities.columns.to_numpy(str)[probabilities.to_numpy().argmax(axis=1)],
        "cluster_probability": probabilities.to_numpy(np.float32).max(axis=1),
    }
    weights = model.get_cluster_weights().to_numpy()
    found.run["n_clusters_by_weight"] = int(np.sum(weights * len(probabilities) >= 1))
    centers = model.get_cluster_centers().loc[np.unique(found.obs["cluster"])]
    found.decoded = pd.DataFrame(decode(model, centers.to_numpy()), centers.index, model.adata.var_names)


def decode(model: Any, z: np.ndarray) -> np.ndarray:
    """Return the expression that positions decode into, averaged over batches by their share of cells."""
    import torch
    from scvi import REGISTRY_KEYS
    from scvi.module._constants import MODULE_KEYS

    batches = model.adata_manager.get_from_registry(REGISTRY_KEYS.BATCH_KEY).ravel().astype(int)
    positions = torch.as_tensor(z, dtype=torch.float32, device=model.module.device)
    library = torch.zeros(len(z), 1, device=positions.device)
    total = torch.zeros(len(z), model.summary_stats.n_vars, device=positions.device)
    model.module.eval()
    with torch.inference_mode():
        for batch, share in pd.Series(batches).value_counts(normalize=True).items():
            index = torch.full_like(library, int(batch), dtype=torch.long)
            generated = model.module.generative(z=positions, library=library, batch_index=index)
            total += generated[MODULE_KEYS.PX_KEY].scale * share
    return total.cpu().numpy()


def pca(adata: AnnData, seed: int, n_components: int = 10) -> np.ndarray:
    """Principal components of normalised, log-transformed counts; the same for every seed."""
    return adata.obsm["X_pca"][:, :n_components]


def harmony(adata: AnnData, seed: int, n_components: int = 50, **kwargs: Any) -> np.ndarray:
    """Harmony on principal components (Korsunsky 2019); with one batch the components themselves."""
    components = pca(adata, seed, n_components)
    if adata.obs[BATCH].nunique() == 1:
        return components
    arguments = {"verbose": False, "random_state": seed, **kwargs}
    result = import_module("harmonypy").run_harmony(components, adata.obs, BATCH, **arguments)
    corrected = np.asarray(result.Z_corr)
    return corrected if corrected.shape == components.shape else corrected.T  # differs between versions


def scanorama(adata: AnnData, seed: int, n_latent: int = 50, **kwargs: Any) -> np.ndarray:
    """Scanorama on normalised, log-transformed counts (Hie 2019); with one batch their components."""
    if adata.obs[BATCH].nunique() == 1:
        return pca(adata, seed, n_latent)
    data = normalized(adata)
    batches = [np.flatnonzero(data.obs[BATCH] == name) for name in data.obs[BATCH].cat.categories]
    arguments = {"dimred": min(n_latent, min(data.shape) - 1), "seed": seed, "verbose": 0, **kwargs}
    parts, _ = import_module("scanorama").integrate(
        [data.X[cells].tocsr() for cells in batches], [list(data.var_names)] * len(batches), **arguments
    )
    z = np.empty((data.n_obs, parts[0].shape[1]), dtype=np.float32)
    z[np.concatenate(batches)] = np.concatenate(parts)
    return z


LINEAR: dict[str, Callable[..., np.ndarray]] = {"pca": pca, "harmony": harmony, "scanorama": scanorama}


def fit(adata: AnnData, seed: int, kind: str, model: dict[str, Any], train: dict[str, Any]) -> Fit:
    """Run a method.

    Parameters
    ----------
    adata
        As from :func:`data.load`; scvi-tools adds marks to it.
    seed
        Seed of everything random.
    kind, model, train
        Entry of the configuration: the kind of method, and arguments of the model and of its ``train``.
    """
    if kind in LINEAR:
        found = Fit(LINEAR[kind](adata, seed, **model))
    else:
        found = scvi_models(adata, seed, kind, model, train)
    found.z = np.ascontiguousarray(found.z, dtype=np.float32)
    if not np.isfinite(found.z).all():
        raise ValueError("The embedding has values that are not finite.")
    return found
