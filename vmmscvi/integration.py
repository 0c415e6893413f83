"""Integration in one call, with the signature that integration benchmarks expect.

Use :func:`scvi_vmm` in place of a function of ``scib.integration``. For everything else use
:class:`vmmscvi.SCVI_VMM`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from anndata import AnnData

from vmmscvi.model import SCVI_VMM
from vmmscvi.priors import MixturePrior

__all__ = ["scvi_vmm"]

COUNTS, EMBEDDING, CLUSTER = "counts", "X_emb", "vmm_cluster"


def scvi_vmm(
    adata: AnnData,
    batch: str,
    hvg: Sequence[str] | None = None,
    return_model: bool = False,
    max_epochs: int | None = None,
    **kwargs: Any,
) -> AnnData | SCVI_VMM:
    """Integrate batches with :class:`vmmscvi.SCVI_VMM`, without labels.

    Parameters
    ----------
    adata
        Annotated data with raw counts in ``layers["counts"]``.
    batch
        Column of ``adata.obs`` with the batches.
    hvg
        Names of the variable genes to train on; all genes by default.
    return_model
        Whether to return the trained model instead of the data.
    max_epochs
        Largest number of epochs; see :meth:`vmmscvi.SCVI_VMM.train`.
    **kwargs
        Further arguments of :class:`vmmscvi.SCVI_VMM`, such as ``prior``.

    Returns
    -------
    AnnData or SCVI_VMM
        ``adata`` with the embedding in ``obsm["X_emb"]`` and, for a mixture prior, the clusters in
        ``obs["vmm_cluster"]``; the model if ``return_model`` is set.

    Raises
    ------
    ValueError
        If ``adata`` lacks the layer ``"counts"``, the batch column or some of the genes.
    """
    if hvg is not None:
        missing = [gene for gene in hvg if gene not in adata.var_names]
        if missing:
            raise ValueError(f"`hvg` has {missing[:5]}; expected names in `adata.var_names`.")
    # a copy of the used genes, because registration changes the data
    data = adata.copy() if hvg is None else adata[:, list(hvg)].copy()
    SCVI_VMM.setup_anndata(data, layer=COUNTS, batch_key=batch)
    model = SCVI_VMM(data, **kwargs)
    model.train(max_epochs=max_epochs)
    if return_model:
        return model
    adata.obsm[EMBEDDING] = np.asarray(model.get_latent_representation())
    if isinstance(model.module.latent_prior, MixturePrior):
        adata.obs[CLUSTER] = model.predict()
    return adata
