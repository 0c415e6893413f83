"""What the start of the prior finds in embeddings after the warm-up, beside Leiden. Embeddings are kept.

    python benchmarks/fit_embeddings.py embed --data DIR --datasets cellbench pbmc_2src --seeds 0 1
    python benchmarks/fit_embeddings.py table
    python benchmarks/fit_embeddings.py levels

``levels`` tells what other numbers of effective cells find.

Labels are used for scoring only. The table is a step of its own: other libraries' threads must not disturb
the training.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

SIMULATED = ("well_separated", "nested_rare", "strong_batch", "many_types", "single_type", "continuum")
RESOLUTIONS = (0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.3, 1.6, 2.0)
N_STEPS, BATCH_SIZE = 1000, 256
N_COMPONENTS = 100
"""At the start of the search, as in a training."""
N_EFFECTIVE = (250, 375, 500, 600, 750, 1500, 3000)


def load(name: str, data: Path, seed: int, share: float) -> ad.AnnData:
    """Read or simulate a data set, and keep a share of its cells."""
    from vmmscvi.data import simulate_preset

    adata = simulate_preset(name, seed=seed) if name in SIMULATED else ad.read_h5ad(data / f"{name}.h5ad")
    if share == 1:
        return adata
    return adata[np.random.default_rng(7 + seed).random(adata.n_obs) < share].copy()


def embed(adata: ad.AnnData, seed: int) -> np.ndarray:
    """Train under N(0, I) for as long as the warm-up takes; return posterior means."""
    import scvi

    from vmmscvi import SCVI_VMM

    scvi.settings.seed = seed
    SCVI_VMM.setup_anndata(adata, batch_key="batch")
    model = SCVI_VMM(adata, prior="standard_normal")
    n_epochs = max(5, math.ceil(N_STEPS / math.ceil(0.9 * adata.n_obs / BATCH_SIZE)))
    model.train(max_epochs=n_epochs, batch_size=BATCH_SIZE, early_stopping=False, enable_progress_bar=False)
    return np.asarray(model.get_latent_representation())


def leiden(z: np.ndarray) -> dict[float, np.ndarray]:
    """Return clusters by resolution, on 15 exact neighbours."""
    from vmmscvi import _neighbors

    graph = _neighbors.neighbor_graph(z, seed=0)
    return {r: np.asarray(_neighbors.leiden(graph, 0, r), str) for r in RESOLUTIONS}


def score(labels: np.ndarray, clusters: np.ndarray) -> str:
    """Return number of clusters, NMI and ARI."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    nmi, ari = normalized_mutual_info_score(labels, clusters), adjusted_rand_score(labels, clusters)
    return f"{len(np.unique(clusters))}, {nmi:.3f}, {ari:.3f}"


def line(path: Path, n_effective: float) -> dict[str, object]:
    """Return one row of the table."""
    from sklearn.metrics import normalized_mutual_info_score

    from vmmscvi.priors import fit_coarsened_mixture

    name, seed, share = path.stem.split("@")
    run = np.load(path)
    labels = run["labels"]
    start = time.process_time()
    mixture = fit_coarsened_mixture(run["z"], N_COMPONENTS, n_effective)
    seconds = time.process_time() - start
    by_leiden = leiden(run["z"])
    best = max(by_leiden.values(), key=lambda clusters: normalized_mutual_info_score(labels, clusters))
    return {
        "data": name,
        "seed": seed,
        "share of cells": share,
        "types": len(np.unique(labels)),
        "clusters, NMI, ARI": score(labels, mixture.responsibilities.argmax(1).numpy()),
        "CPU s": f"{seconds:.1f}",
        "Leiden, resolution 1": score(labels, by_leiden[1.0]),
        "Leiden, best resolution": score(labels, best),
    }


def levels(path: Path) -> dict[str, object]:
    """Return clusters, NMI and ARI by the number of effective cells, as far as there are so many cells."""
    from vmmscvi.priors import fit_coarsened_mixture

    name, seed, share = path.stem.split("@")
    run = np.load(path)
    fits = {
        n: fit_coarsened_mixture(run["z"], N_COMPONENTS, n).responsibilities.argmax(1).numpy()
        for n in N_EFFECTIVE
        if n <= len(run["z"])
    }
    found = {f"{n}": score(run["labels"], clusters) for n, clusters in fits.items()}
    return {"data": name, "seed": seed, "share of cells": share, **found}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=["embed", "table", "levels"])
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--datasets", nargs="+", default=["well_separated", "nested_rare"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--share", type=float, default=1.0, help="Share of the cells that are used.")
    parser.add_argument("--n-effective", type=float, default=500.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("results/embeddings"))
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    if args.action != "embed":
        paths = sorted(args.out.glob("*.npz"))
        rows = [levels(path) if args.action == "levels" else line(path, args.n_effective) for path in paths]
        print(pd.DataFrame(rows).to_markdown(index=False))
        return
    import torch

    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    for seed in args.seeds:
        for name in args.datasets:
            path = args.out / f"{name}@{seed}@{args.share}.npz"
            if not path.exists():
                adata = load(name, args.data, seed, args.share)
                labels = adata.obs["cell_type"].to_numpy(str)
                np.savez_compressed(path, z=embed(adata, seed), labels=labels)


if __name__ == "__main__":
    main()
