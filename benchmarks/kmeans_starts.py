"""What scIB's total would be if its k-means had ten starts instead of one: a table in Markdown.

    python benchmarks/kmeans_starts.py results/clusters --datasets well_separated

scib-metrics clusters an embedding by one run of k-means, which may join two types that are far apart and
split a third. Two of the five measures of bio conservation follow from that.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from vmmscvi.benchmark import _schema
from vmmscvi.benchmark._files import read_arrays
from vmmscvi.benchmark._report_data import Run, read_results

SHARE_OF_BIO = 0.6


def row(run: Run, scores: pd.Series) -> dict[str, object]:
    """Return both totals of one training."""
    arrays = read_arrays(run.folder / _schema.EMBEDDING_FILE)
    labels = arrays["labels"].astype(str)
    k_means = KMeans(len(np.unique(labels)), n_init=10, random_state=0).fit_predict(arrays["z"])
    nmi, ari = normalized_mutual_info_score(labels, k_means), adjusted_rand_score(labels, k_means)
    more = nmi - scores["KMeans NMI"] + ari - scores["KMeans ARI"]
    return {
        "data": run.dataset,
        "method": run.method,
        "seed": run.seed,
        "KMeans NMI, one start": scores["KMeans NMI"],
        "ten starts": nmi,
        "total": scores[_schema.TOTAL],
        "total with ten starts": scores[_schema.TOTAL] + SHARE_OF_BIO * more / len(_schema.BIO_MEASURES),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--datasets", nargs="+", default=["well_separated"])
    parser.add_argument("--methods", nargs=2, default=["VMM", "scVI"])
    args = parser.parse_args()
    results = read_results(args.folder)
    rows = []
    for dataset in args.datasets:
        for method in args.methods:
            table = pd.DataFrame(
                {
                    measure: results.trials(dataset, method, _schema.NO_CLUSTERING, measure)
                    for measure in (*_schema.BIO_MEASURES, _schema.TOTAL)
                }
            )
            rows += [
                row(run, table.loc[run.seed])
                for run in results.of(dataset, method)
                if run.seed in table.index and not np.isnan(table.loc[run.seed, _schema.TOTAL])
            ]
    table = pd.DataFrame(rows)
    print(table.round(3).to_markdown(index=False))
    print()
    means = table.groupby(["data", "method"])[["total", "total with ten starts"]].mean().reset_index()
    print(means.round(3).to_markdown(index=False))


if __name__ == "__main__":
    main()
