"""Data sets as every method sees them: raw counts, with batches and types under fixed names.

    python data.py --spec '{"name": "mine", "path": "counts.h5ad"}' --data DIR --out counts.h5ad

The paper's data come from their public addresses. Where its authors' code reads files that are not public, or
does what we believe to be a slip, the function says what is done here instead.
"""

from __future__ import annotations

import argparse
import gzip
import json
import logging
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scanpy as sc
from anndata import AnnData, read_h5ad
from scipy import sparse

from vmmscvi.data import simulate_preset

logger = logging.getLogger(__name__)

BATCH, CELL_TYPE = "batch", "cell_type"
N_COMPONENTS = 50
LUNG_ATLAS_URL = "https://figshare.com/ndownloader/files/24539942"
SPLIT_SEQ_URL = (
    "https://ftp.ncbi.nlm.nih.gov/geo/samples/GSM3017nnn/GSM3017261/suppl/GSM3017261_150000_CNS_nuclei.mat.gz"
)


def load(spec: dict[str, Any], folder: Path) -> AnnData:
    """Load a data set; genes are selected before cells are drawn.

    Parameters
    ----------
    spec
        Entry of the configuration. ``path`` is relative to ``folder``; ``simulate`` is a preset of the
        simulator and ``arguments`` are its arguments; ``source`` is one of the paper's sets, which has the
        paper's genes unless ``n_top_genes`` says otherwise.
    folder
        Folder of data; what is downloaded goes into ``downloads`` there.

    Returns
    -------
    Counts (CSR, float32) in ``X``, ``obs["batch"]``, ``obs["cell_type"]`` and principal components of the
    normalised data in ``obsm["X_pca"]``. Cells without a type, and those without counts, are left out.
    """
    spec = {"batch_key": BATCH, "label_key": CELL_TYPE, **spec}
    min_counts, genes_within = 1, BATCH
    if "source" in spec:
        read, settings = SOURCES[spec["source"]]
        adata = read(folder / "downloads")
        spec = {**settings, **spec}
        min_counts = 3  # genes, then cells, as in the authors' code
        genes_within = spec.pop("genes_within", None)
    elif "simulate" in spec:
        adata = simulate_preset(spec["simulate"], **{"seed": 0, **spec.get("arguments", {})})
    else:
        adata = read_h5ad(folder / spec["path"])
    adata = standardize(adata, spec["batch_key"], spec["label_key"], spec.get("layer"))
    n_top_genes = spec.get("n_top_genes")
    if n_top_genes and n_top_genes < adata.n_vars:
        several = genes_within if genes_within and adata.obs[BATCH].nunique() > 1 else None
        genes = sc.pp.highly_variable_genes(
            adata, n_top_genes=n_top_genes, flavor="seurat_v3", batch_key=several, inplace=False
        )
        adata = adata[:, genes["highly_variable"].to_numpy()].copy()
    if min_counts > 1:
        sc.pp.filter_genes(adata, min_counts=min_counts)
    n_obs = adata.n_obs
    sc.pp.filter_cells(adata, min_counts=min_counts)
    if adata.n_obs < n_obs:
        logger.warning("%d cells with fewer than %d counts are left out.", n_obs - adata.n_obs, min_counts)
    if spec.get("subsample", adata.n_obs) < adata.n_obs:
        cells = np.random.default_rng(0).choice(adata.n_obs, spec["subsample"], replace=False)
        adata = adata[np.sort(cells)].copy()
    adata.obs = adata.obs[[BATCH, CELL_TYPE]].apply(lambda column: column.cat.remove_unused_categories())
    adata.obsm["X_pca"] = principal_components(adata)
    return adata


def standardize(adata: AnnData, batch_key: str | None, label_key: str, layer: str | None) -> AnnData:
    """Keep counts, batches and types, whatever they were called; cells without a type are left out."""
    for key in (batch_key, label_key):
        if key is not None and key not in adata.obs:
            raise ValueError(f"{key!r} is no column of obs; expected one of {list(adata.obs)}.")
    adata = adata[adata.obs[label_key].notna().to_numpy()]
    counts = sparse.csr_matrix(adata.X if layer is None else adata.layers[layer], dtype=np.float32)
    if not np.isfinite(counts.data).all() or (counts.nnz and counts.data.min() < 0):
        raise ValueError("There are negative or missing values; expected raw counts.")
    batch = np.zeros(adata.n_obs, int) if batch_key is None else adata.obs[batch_key].to_numpy()
    obs = pd.DataFrame({BATCH: batch, CELL_TYPE: adata.obs[label_key].to_numpy()}, adata.obs_names)
    found = AnnData(counts, obs.astype(str).astype("category"), pd.DataFrame(index=adata.var_names))
    found.obs_names_make_unique()
    found.var_names_make_unique()
    return found


def normalized(adata: AnnData) -> AnnData:
    """Return log1p of counts scaled to the median library size."""
    data = adata.copy()
    sc.pp.normalize_total(data)
    sc.pp.log1p(data)
    return data


def principal_components(adata: AnnData) -> np.ndarray:
    """Principal components of :func:`normalized` data, ``(n_obs, 50)`` or fewer columns."""
    n = min(N_COMPONENTS, min(adata.shape) - 1)
    return np.asarray(sc.pp.pca(normalized(adata).X, n_comps=n, random_state=0), dtype=np.float32)


def cortex(folder: Path) -> AnnData:
    """Load 3,005 cells of mouse cortex, seven types, one batch (Zeisel 2015), by way of scvi-tools."""
    import scvi

    adata = scvi.data.cortex(save_path=str(folder))
    adata.obs[BATCH] = "0"
    return adata


def pbmc(folder: Path) -> AnnData:
    """Load 12 thousand blood cells, nine types, two batches (Lopez 2018), by way of scvi-tools."""
    import scvi

    adata = scvi.data.pbmc_dataset(save_path=str(folder))
    adata.obs[CELL_TYPE] = adata.obs["str_labels"]
    return adata


def lung_atlas(folder: Path) -> AnnData:
    """Load scIB's lung atlas: 32 thousand cells, 17 types, 16 batches (Luecken 2022).

    Counts are ``layers["counts"]``. The authors' code takes ``X``, which is normalised in this file.
    """
    adata = sc.read(folder / "lung_atlas.h5ad", backup_url=LUNG_ATLAS_URL)
    adata.X = adata.layers["counts"]
    return adata


def split_seq(folder: Path) -> AnnData:
    """Load 156 thousand nuclei of mouse brain (Rosenberg 2018, GSE110823).

    **Not the paper's matrix**, which is not public. Assumed here: the brain alone; the batch is the age;
    types are the first word of the clusters' names without their number; unresolved clusters are left out.
    """
    from scipy.io import loadmat

    path = folder / "split_seq.mat.gz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial, _ = urllib.request.urlretrieve(SPLIT_SEQ_URL, path.with_suffix(".part"))
        Path(partial).replace(path)
    with gzip.open(path) as file:
        content = loadmat(file)
    samples, clusters, genes = (
        pd.Series(np.ravel(content[key])).str.strip()
        for key in ("sample_type", "cluster_assignment", "genes")
    )
    obs = pd.DataFrame({BATCH: samples.str.split("_").str[0], CELL_TYPE: clusters.str.split().str[1]})
    obs.index = np.ravel(content["barcodes"]).astype(str)
    adata = AnnData(sparse.csr_matrix(content["DGE"]), obs, pd.DataFrame(index=genes))
    kept = samples.str.endswith("brain").to_numpy() & (obs[CELL_TYPE] != "Unresolved").to_numpy()
    return adata[kept].copy()


SOURCES: dict[str, tuple[Callable[[Path], AnnData], dict[str, Any]]] = {
    "cortex": (cortex, {"n_top_genes": 558}),
    "pbmc": (pbmc, {}),
    "lung_atlas": (lung_atlas, {"n_top_genes": 2000, "genes_within": BATCH}),
    "split_seq": (split_seq, {"n_top_genes": 2000, "genes_within": BATCH}),
}
"""How the paper's sets are read, and how its authors chose genes."""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", type=json.loads, required=True)
    parser.add_argument("--data", type=Path, default=Path())
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    load(arguments.spec, arguments.data).write_h5ad(arguments.out, compression="gzip")


if __name__ == "__main__":
    main()
