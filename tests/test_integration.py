"""The function with the signature of scib's."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from anndata import AnnData

from vmmscvi import SCVI_VMM
from vmmscvi.integration import scvi_vmm


@pytest.fixture
def layered(adata: AnnData) -> AnnData:
    adata.layers["counts"] = adata.X.copy()
    adata.X = np.zeros(adata.shape)  # counts are taken from the layer
    return adata


def test_it_adds_embedding_and_clusters_and_leaves_no_other_mark(layered: AnnData) -> None:
    before = set(layered.uns), set(layered.obs), set(layered.var_names)
    found = scvi_vmm(layered, "batch", list(layered.var_names[:50]), max_epochs=2, n_latent=4)
    assert found is layered
    assert found.obsm["X_emb"].shape == (layered.n_obs, 4) and np.isfinite(found.obsm["X_emb"]).all()
    assert (set(found.uns), set(found.obs) - {"vmm_cluster"}, set(found.var_names)) == before
    assert found.obs["vmm_cluster"].notna().all()


def test_it_trains_on_the_variable_genes_and_can_return_the_model(layered: AnnData) -> None:
    genes = list(layered.var_names[10:40])
    model = scvi_vmm(layered, "batch", genes, return_model=True, max_epochs=1, prior="standard_normal")
    assert isinstance(model, SCVI_VMM)
    assert list(model.adata.var_names) == genes
    assert "X_emb" not in layered.obsm


def test_without_a_mixture_there_are_no_clusters(layered: AnnData) -> None:
    found = scvi_vmm(layered, "batch", max_epochs=1, prior="standard_normal")
    assert "X_emb" in found.obsm and "vmm_cluster" not in found.obs


def test_errors_name_missing_entries(layered: AnnData) -> None:
    with pytest.raises(ValueError, match=r"`hvg` has \['nope'\]"):
        scvi_vmm(layered, "batch", ["nope"])
    with pytest.raises(ValueError, match="'site' is not a column"):
        scvi_vmm(layered, "site")
    del layered.layers["counts"]
    with pytest.raises(ValueError, match="'counts' is not in"):
        scvi_vmm(layered, "batch")


def test_its_signature_is_that_of_scibs_function() -> None:
    scib = pytest.importorskip("scib", reason="needs scib")
    theirs = list(inspect.signature(scib.integration.scvi).parameters)
    assert list(inspect.signature(scvi_vmm).parameters)[: len(theirs)] == theirs
