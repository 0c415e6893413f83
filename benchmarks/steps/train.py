"""Run one method on one data set with one seed, and write its embedding.

    python train.py --counts counts.h5ad --method '{"method": "VMM", "kind": "scvi_vmm"}' --out embedding.h5ad

The file has ``obsm["X_emb"]``, batches, types and clusters in ``obs``, and in ``uns`` the settings, versions,
history and decoded centres of the clusters.
"""

from __future__ import annotations

import argparse
import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd
from anndata import AnnData, read_h5ad
from data import BATCH, CELL_TYPE
from methods import fit

PACKAGES = ("vmmscvi", "scvi-tools", "torch", "numpy", "scanpy", "scib-metrics", "harmonypy", "scanorama")
SETTINGS = ("batch_size", "prior_lr_ratio")
"""Arguments of ``train`` that tuning compares."""


def train(adata: AnnData, method: dict[str, Any], seed: int) -> AnnData:
    """Return the embedding of all cells, as it is written."""
    size = {
        "n_obs": adata.n_obs,
        "n_vars": adata.n_vars,
        "n_batches": adata.obs[BATCH].nunique(),
        "n_types": adata.obs[CELL_TYPE].nunique(),
    }
    obs = adata.obs[[BATCH, CELL_TYPE]].copy()
    arguments = method.get("train", {})
    found = fit(adata, seed, method["kind"], method.get("model", {}), arguments)
    settings = {name: arguments[name] for name in SETTINGS if name in arguments}
    embedding = AnnData(obs=obs.assign(**found.obs), obsm={"X_emb": found.z})
    embedding.uns = {
        "method": json.dumps({**method, "seed": seed}),
        "run": {**size, **settings, **found.run},
        "versions": versions(),
        "history": {name: column.to_numpy() for name, column in found.history.items()},
    }
    if found.decoded is not None:
        embedding.uns["decoded"] = pd.DataFrame(found.decoded)
    return embedding


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=Path, required=True)
    parser.add_argument("--method", type=json.loads, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(arguments.threads)
    embedding = train(read_h5ad(arguments.counts), arguments.method, arguments.seed)
    embedding.write_h5ad(arguments.out, compression="gzip")


if __name__ == "__main__":
    main()
