"""Could resampling choose how fine clusters are? Fits to halves of embeddings, their agreement and consensus.

    python benchmarks/fit_embeddings.py embed --data DIR --datasets cellbench kang_8donors --seeds 0
    python benchmarks/resampling.py

For every number of effective cells: how many clusters the fits to halves have, how much they agree with
each other on all cells (mean adjusted Rand index over pairs of fits), and how good they are against the
labels; the same of their consensus, which puts two cells into one cluster if most fits do (average linkage of
the share of fits that keep two cells apart, cut at one half). Labels are used for scoring only.
"""

from __future__ import annotations

import argparse
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from fit_embeddings import N_COMPONENTS, score
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from vmmscvi.priors import CoarsenedMixture, fit_coarsened_mixture

MAJORITY = 0.5
N_LINKED = 1500
"""Cells that the consensus is built of; the others join the cluster that they are with most often."""
JITTER = 1e-6


def assign(mixture: CoarsenedMixture, z: torch.Tensor) -> NDArray[np.int64]:
    """Component of every cell, also of cells that the mixture was not fitted to."""
    covariance = mixture.covariance + JITTER * torch.eye(z.shape[1], dtype=z.dtype)
    components = torch.distributions.MultivariateNormal(mixture.loc, covariance)
    return (mixture.weights.log() + components.log_prob(z[:, None])).argmax(1).numpy()


def fits_to_halves(z: torch.Tensor, n_effective: float, n_fits: int) -> NDArray[np.int64]:
    """Clusters of all cells by fits to random halves, shape ``(n_obs, n_fits)``."""
    rng = np.random.default_rng(0)
    clusters = []
    for seed in range(n_fits):
        half = z[rng.permutation(len(z))[: len(z) // 2]]
        mixture = fit_coarsened_mixture(half, N_COMPONENTS, n_effective, seed=seed, n_starts=1)
        clusters.append(assign(mixture, z))
    return np.stack(clusters, axis=1)


def consensus(fits: NDArray[np.int64]) -> NDArray[np.int64]:
    """Clusters that most fits agree on, shape ``(n_obs,)``."""
    linked = np.random.default_rng(0).permutation(len(fits))[:N_LINKED]
    apart = pdist(fits[linked], "hamming")
    groups = fcluster(linkage(apart, "average"), MAJORITY, "distance") - 1
    together = np.zeros((len(fits), groups.max() + 1))
    for clusters in fits.T:
        shares = np.zeros((clusters.max() + 1, together.shape[1]))
        np.add.at(shares, (clusters[linked], groups), 1.0)
        together += (shares / np.bincount(groups))[clusters]
    return together.argmax(1)


def line(path: Path, n_effective: float, n_fits: int) -> dict[str, object]:
    """Return one row of the table."""
    name, seed, _ = path.stem.split("@")
    run = np.load(path)
    labels = run["labels"]
    fits = fits_to_halves(torch.as_tensor(run["z"]).double(), n_effective, n_fits)
    numbers = [len(np.unique(clusters)) for clusters in fits.T]
    agreement = [adjusted_rand_score(a, b) for a, b in combinations(fits.T, 2)]
    nmi = np.mean([normalized_mutual_info_score(labels, clusters) for clusters in fits.T])
    ari = np.mean([adjusted_rand_score(labels, clusters) for clusters in fits.T])
    return {
        "data": name,
        "seed": seed,
        "types": len(np.unique(labels)),
        "n_effective": n_effective,
        "halves: clusters, NMI, ARI": f"{min(numbers)}-{max(numbers)}, {nmi:.3f}, {ari:.3f}",
        "agreement of halves": f"{np.mean(agreement):.3f}",
        "consensus: clusters, NMI, ARI": score(labels, consensus(fits)),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--embeddings", type=Path, default=Path("results/embeddings"))
    parser.add_argument("--n-effective", nargs="+", type=float, default=[375.0, 500.0, 750.0, 1500.0])
    parser.add_argument("--fits", type=int, default=12)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = [
        line(path, n_effective, arguments.fits)
        for path in sorted(arguments.embeddings.glob("*@1.0.npz"))
        for n_effective in arguments.n_effective
    ]
    sys.stdout.write(pd.DataFrame(rows).to_markdown(index=False) + "\n")


if __name__ == "__main__":
    main()
