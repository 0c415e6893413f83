"""Methods of scvi-tools: SCVI_VMM with any of its priors, SCVI, SysVI."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import scvi
import torch
from anndata import AnnData
from numpy.typing import NDArray
from scvi import REGISTRY_KEYS
from scvi.external import SysVI
from scvi.model import SCVI
from scvi.module._constants import MODULE_KEYS

from vmmscvi.benchmark._data import BATCH, normalized
from vmmscvi.benchmark._methods import Decoded, Fit, NotApplicableError
from vmmscvi.benchmark._specs import MethodSpec
from vmmscvi.model import SCVI_VMM
from vmmscvi.priors import MixturePrior

MODELS = {"scvi_vmm": SCVI_VMM, "scvi": SCVI, "sysvi": SysVI}

TRAIN_DEFAULTS = {"enable_progress_bar": False, "check_val_every_n_epoch": 1}
"""Nothing that changes a training; the validation ELBO is logged for all."""


def fit(adata: AnnData, method: MethodSpec, seed: int) -> Callable[[], Fit]:
    """Train a model; see :func:`vmmscvi.benchmark._methods.fitter`.

    The seed is set right before a model is built, so that the models of one trial have the same split into
    training and validation cells (which the seed alone decides) and the same initial weights, whatever the
    prior.
    """
    if method.kind == "sysvi":
        if adata.obs[BATCH].nunique() == 1:
            raise NotApplicableError("SysVI needs two batches or more.")
        adata = normalized(adata)
    model_class: Any = MODELS[method.kind]
    model_class.setup_anndata(adata, batch_key=BATCH)
    scvi.settings.seed = seed
    model = model_class(adata, **method.model)
    model.train(**{**TRAIN_DEFAULTS, **method.train})
    return lambda: read_off(model, method.kind, seed)


def read_off(model: Any, kind: str, seed: int) -> Fit:
    """Return embedding, clusters and ELBO of a trained model; the seed is that of the ELBO's sample."""
    scvi.settings.seed = seed
    history = _history(model)
    found = Fit(
        z=np.asarray(model.get_latent_representation(), dtype=np.float32),
        history=history,
        n_epochs=len(history),
    )
    # SysVI has a likelihood of normalised values, which is not comparable
    if kind != "sysvi" and model.validation_indices is not None and len(model.validation_indices):
        found.elbo_validation = float(model.get_elbo(indices=model.validation_indices))
    if kind == "scvi_vmm" and _has_clusters(model):
        probabilities = model.get_cluster_probabilities()
        values = probabilities.to_numpy()
        assigned = values.argmax(axis=1)
        found.clusters = probabilities.columns.to_numpy(dtype=str)[assigned]
        found.cluster_probability = values.max(axis=1).astype(np.float32)
        found.component_weights = model.get_cluster_weights().to_numpy(dtype=np.float64)
        used = np.unique(assigned)
        centers = model.get_cluster_centers().to_numpy(dtype=np.float32)[used]
        found.decoded = Decoded(decode(model, centers), probabilities.columns.to_numpy(dtype=str)[used])
    return found


def decode(model: SCVI_VMM, z: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the expression that positions decode into, averaged over batches by their share of cells.

    Parameters
    ----------
    model
        A trained model without covariates other than the batch.
    z
        Latent positions, shape ``(n, p)``.

    Returns
    -------
    Mean normalised expression, shape ``(n, n_vars)``; rows sum to one.
    """
    batches = model.adata_manager.get_from_registry(REGISTRY_KEYS.BATCH_KEY).ravel().astype(int)
    device = model.module.device
    positions = torch.as_tensor(z, device=device)
    total = torch.zeros(len(z), model.summary_stats.n_vars, device=device)
    model.module.eval()
    with torch.inference_mode():
        for batch, count in zip(*np.unique(batches, return_counts=True), strict=True):
            generated = model.module.generative(
                z=positions,
                library=torch.zeros(len(z), 1, device=device),
                batch_index=torch.full((len(z), 1), int(batch), device=device),
            )
            expression: Any = generated[MODULE_KEYS.PX_KEY]
            total += expression.scale * (count / len(batches))
    return np.asarray(total.cpu().numpy(), dtype=np.float32)


def _has_clusters(model: SCVI_VMM) -> bool:
    return isinstance(model.module.latent_prior, MixturePrior)


def _history(model: Any) -> pd.DataFrame:
    columns = {name: table.iloc[:, 0] for name, table in (model.history or {}).items() if len(table)}
    return pd.DataFrame({name: pd.to_numeric(column) for name, column in columns.items()})
