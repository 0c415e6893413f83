"""Models of the comparison: how each takes a data set. Ours takes it exactly as scvi-tools' does.

TOTALVI
    Genes and proteins. Proteins of a batch that are all 0 count as missing. A cell needs genes: cells without
    are left out (the donor of ``hao_pbmc_mosaic`` without RNA).
SCVI
    The genes of the same cells.
PEAKVI, POISSONVI
    Fragments, as the sets hold them; PEAKVI turns them into 0 and 1 itself.
MULTIVI
    Genes, and peaks or proteins, of all cells; what was not measured is 0. Where cells were cut to one
    modality, the modality is the batch, as in scvi-tools' tutorial, and batches are a covariate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scvi
from mudata import MuData

import vmmscvi


class MissingModelError(ImportError):
    """The package has no such model."""


@dataclass(frozen=True)
class ModelSpec:
    """A model: scvi-tools' class, the name of ours, and how data are registered with either."""

    stock: type[Any]
    ours: str
    setup: Callable[[type[Any], ad.AnnData], Any]
    """Register data with a class; returns what the class is constructed with."""

    def model_class(self, method: str) -> type[Any]:
        """Return the class of a method, ``"stock"`` or ``"vmm"``."""
        if method == "stock":
            return self.stock
        found = getattr(vmmscvi, self.ours, None)
        if found is None:
            raise MissingModelError(f"vmmscvi.{self.ours} does not exist in vmmscvi {vmmscvi.__version__}.")
        return found  # type: ignore[no-any-return]


def cells_of(model: str, adata: ad.AnnData) -> ad.AnnData:
    """Return the cells that a model can take."""
    if model in ("TOTALVI", "SCVI"):
        has_genes = np.asarray(adata.X.sum(axis=1)).ravel() > 0
        return adata if has_genes.all() else adata[has_genes].copy()
    return adata


def batch_key(adata: ad.AnnData) -> str | None:
    """Return the column of the batches, if there are several."""
    return "batch" if adata.obs["batch"].nunique() > 1 else None


def setup_totalvi(model_class: type[Any], adata: ad.AnnData) -> ad.AnnData:
    """Register genes and proteins."""
    model_class.setup_anndata(adata, batch_key=batch_key(adata), protein_expression_obsm_key="protein")
    return adata


def setup_counts(model_class: type[Any], adata: ad.AnnData) -> ad.AnnData:
    """Register counts: genes of SCVI, fragments of PEAKVI and POISSONVI."""
    model_class.setup_anndata(adata, batch_key=batch_key(adata))
    return adata


def setup_multivi(model_class: type[Any], adata: ad.AnnData) -> MuData:
    """Register one AnnData for each modality, all with all cells."""
    parts = {"rna": ad.AnnData(adata.X, obs=adata.obs.copy(), var=adata.var[[]])}
    layers = {"rna_layer": "rna", "batch_key": "rna"}
    if "peaks" in adata.obsm:
        names = pd.DataFrame(index=np.asarray(adata.uns["peak_names"], dtype=str))
        parts["atac"] = ad.AnnData(adata.obsm["peaks"], obs=adata.obs[[]], var=names)
        layers["atac_layer"] = "atac"
    if "protein" in adata.obsm:
        table = adata.obsm["protein"]
        names = pd.DataFrame(index="protein_" + table.columns.astype(str))
        parts["protein"] = ad.AnnData(table.to_numpy(np.float32), obs=adata.obs[[]], var=names)
        layers["protein_layer"] = "protein"
    batch, covariates = batch_key(adata), None
    if "modality" in adata.obs:
        batch, covariates = "modality", [batch] if batch else None
        layers["categorical_covariate_keys"] = "rna"
    mdata = MuData(parts)
    model_class.setup_mudata(mdata, batch_key=batch, categorical_covariate_keys=covariates, modalities=layers)
    return mdata


MODELS: Mapping[str, ModelSpec] = MappingProxyType(
    {
        "TOTALVI": ModelSpec(scvi.model.TOTALVI, "TOTALVI_VMM", setup_totalvi),
        "SCVI": ModelSpec(scvi.model.SCVI, "SCVI_VMM", setup_counts),
        "PEAKVI": ModelSpec(scvi.model.PEAKVI, "PEAKVI_VMM", setup_counts),
        "POISSONVI": ModelSpec(scvi.external.POISSONVI, "POISSONVI_VMM", setup_counts),
        "MULTIVI": ModelSpec(scvi.model.MULTIVI, "MULTIVI_VMM", setup_multivi),
    }
)
