"""Coordinates in the plane (UMAP) for one embedding.

    python layout.py --embedding embedding.h5ad --out layout.h5ad

Of larger sets a sample of 5,000 cells is drawn, the same for all methods.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from anndata import AnnData, read_h5ad

from vmmscvi._neighbors import neighbor_graph, umap

MAX_CELLS = 5000


def layout(embedding: AnnData) -> AnnData:
    """Return the cells that are drawn, with ``obsm["X_umap"]`` and what the embedding says of them."""
    n = min(embedding.n_obs, MAX_CELLS)
    cells = np.sort(np.random.default_rng(0).choice(embedding.n_obs, n, replace=False))
    drawn = embedding[cells].copy()
    drawn.obsm["X_umap"] = umap(neighbor_graph(drawn.obsm["X_emb"], seed=0), seed=0)
    return drawn


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--embedding", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    layout(read_h5ad(arguments.embedding)).write_h5ad(arguments.out, compression="gzip")


if __name__ == "__main__":
    main()
