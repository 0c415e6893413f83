"""Whether a second search for clusters, after training, finds other clusters than the trained prior has.

    snakemake -s benchmarks/Snakefile --until score clusters 'methods=["VMM"]' --config data=DIR
    python benchmarks/second_search.py results/clusters/*/vmm

Prints a row for each data set: numbers of clusters by seed, the smallest agreement of both clusterings, and
the mean agreement of pairs of seeds. Agreement is the adjusted Rand index; labels are not used.
"""

from __future__ import annotations

import argparse
from itertools import combinations
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score


def clusterings(run: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the clusters of a trained model, and those of a search in its embedding."""
    from vmmscvi.priors import fit_coarsened_mixture

    trained = pd.read_csv(run / "clusters.csv.gz", index_col=0)["own"].to_numpy()
    z = np.asarray(ad.read_h5ad(run / "embedding.h5ad").obsm["X_emb"])
    return trained, fit_coarsened_mixture(z).responsibilities.argmax(1).numpy()


def line(method: Path) -> dict[str, object]:
    """Return a row of the table, of all seeds in a folder."""
    pairs = [clusterings(run) for run in sorted(method.glob("seed*"))]
    if not pairs:
        raise ValueError(
            f"{method} has no folders seed0, seed1, ...: give folders of an experiment's results."
        )
    trained, second = zip(*pairs, strict=True)
    return {
        "data": method.parent.name,
        "trained": numbers(trained),
        "second": numbers(second),
        "both": f"{min(adjusted_rand_score(*pair) for pair in pairs):.3f}",
        "seeds, trained": agreement(trained),
        "seeds, second": agreement(second),
    }


def numbers(found: tuple[np.ndarray, ...]) -> str:
    """Return the number of clusters with each seed."""
    return " ".join(str(len(np.unique(clusters))) for clusters in found)


def agreement(found: tuple[np.ndarray, ...]) -> str:
    """Return the mean agreement of pairs of seeds."""
    indices = [adjusted_rand_score(*pair) for pair in combinations(found, 2)]
    return f"{np.mean(indices):.3f}" if indices else ""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("methods", type=Path, nargs="+", help="folders with the results of seeds")
    rows = [line(method) for method in parser.parse_args().methods]
    print(pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True))


if __name__ == "__main__":
    main()
