"""Open Problems, task "Batch integration": SCVI_VMM as a method. viash replaces ``par`` and ``meta``."""

import anndata as ad

from vmmscvi.integration import scvi_vmm

## VIASH START
par = {
    "input": "resources_test/task_batch_integration/cxg_immune_cell_atlas/dataset.h5ad",
    "output": "output.h5ad",
    "n_hvg": 2000,
    "n_latent": 10,
    "prior": "vmm",
    "max_epochs": None,
}
meta = {"name": "scvi_vmm"}
## VIASH END

print("Read input", flush=True)
adata = ad.read_h5ad(par["input"])
genes = adata.var_names
if par["n_hvg"]:
    genes = adata.var["hvg_score"].sort_values(ascending=False).index[: par["n_hvg"]]

print("Train", flush=True)
integrated = scvi_vmm(
    adata, "batch", genes, max_epochs=par["max_epochs"], n_latent=par["n_latent"], prior=par["prior"]
)

print("Write output", flush=True)
output = ad.AnnData(
    obs=adata.obs[[]],
    var=adata[:, genes].var[[]],
    obsm={"X_emb": integrated.obsm["X_emb"]},
    uns={
        "dataset_id": adata.uns["dataset_id"],
        "normalization_id": adata.uns["normalization_id"],
        "method_id": meta["name"],
    },
)
output.write_h5ad(par["output"], compression="gzip")
