"""The prior's own clusters beside Leiden's on another method's embedding, over all seeds: tables in Markdown.

    vmmscvi benchmark run --config benchmarks/number_of_clusters.yaml --data DIR --out results/clusters
    python benchmarks/clusters_against_leiden.py results/clusters

Numbers of clusters are those of all seeds, NMI and ARI their means. "Between seeds" is the mean adjusted Rand
index over pairs of seeds, of own clusters and of Leiden's at resolution 1. Totals are scIB's, of sets with
several batches, with the p-value of a paired t-test. The last table tells, for sets of simulated types, what
became of the rarest type: the share of it that one cluster holds, and the other cells in there.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from stability import leiden_clusters

from vmmscvi.benchmark import _schema
from vmmscvi.benchmark._files import read_arrays
from vmmscvi.benchmark._report_data import ReportData, Run, read_results
from vmmscvi.benchmark._statistics import paired_t_test, stability
from vmmscvi.benchmark._tables_runs import own_clusters

LEIDEN_TITLES = {_schema.LEIDEN_1: "Leiden, resolution 1", _schema.LEIDEN_BEST: "Leiden, best resolution†"}


def agreement(results: ReportData, dataset: str, method: str, clustering: str) -> str:
    """Return smallest and largest number of clusters, mean NMI and mean ARI."""
    trials = {
        measure: results.trials(dataset, method, clustering, measure).dropna()
        for measure in (_schema.N_CLUSTERS, _schema.NMI, _schema.ARI)
    }
    numbers = trials[_schema.N_CLUSTERS]
    if numbers.empty:
        return ""
    range_ = "-".join(f"{n:.0f}" for n in sorted({numbers.min(), numbers.max()}))
    return f"{range_}, {trials[_schema.NMI].mean():.3f}, {trials[_schema.ARI].mean():.3f}"


def between_seeds(runs: list[Run], is_own: bool) -> str:
    """Return the mean agreement of two seeds and the number of seeds."""
    found = {run.seed: own_clusters(run) if is_own else leiden_clusters(run) for run in runs}
    clusters = {seed: each for seed, each in found.items() if each is not None}
    return f"{stability(clusters).mean:.3f} ({len(clusters)})" if len(clusters) > 1 else ""


def clusters_row(results: ReportData, dataset: str, method: str, other: str) -> dict[str, str]:
    """Return one row of the table of clusters."""
    return {
        "data (types)": f"{dataset} ({results.sizes[dataset]['n_types']})",
        f"{method}: clusters, NMI, ARI": agreement(results, dataset, method, _schema.OWN),
        **{
            f"{other} + {title}": agreement(results, dataset, other, clustering)
            for clustering, title in LEIDEN_TITLES.items()
        },
        f"between seeds: {method}": between_seeds(results.of(dataset, method), is_own=True),
        f"{other} + Leiden": between_seeds(results.of(dataset, other), is_own=False),
    }


def run_row(results: ReportData, dataset: str, method: str, other: str) -> dict[str, str]:
    """Return one row of the table of embeddings and times."""

    def trials(name: str, measure: str) -> pd.Series:
        return results.trials(dataset, name, _schema.NO_CLUSTERING, measure)

    total = trials(method, _schema.TOTAL)
    pairs = pd.DataFrame({method: total, other: trials(other, _schema.TOTAL).reindex(total.index)}).dropna()
    p_value, n_pairs = paired_t_test(pairs[method], pairs[other])
    has_total = results.sizes[dataset]["n_batches"] > 1 and n_pairs > 0
    seconds = (trials(name, _schema.TRAIN_CPU_SECONDS).mean() for name in (method, other))
    return {
        "data": dataset,
        f"scIB's total: {method}, {other}": (
            f"{pairs[method].mean():.3f}, {pairs[other].mean():.3f}" if has_total else ""
        ),
        "p (pairs)": f"{p_value:.3f} ({n_pairs})" if has_total else "",
        f"CPU s of a training: {method}, {other}": ", ".join(f"{s:.0f}" for s in seconds),
    }


def rarest_type(labels: NDArray[np.str_], clusters: NDArray[np.str_]) -> tuple[str, int, float, int]:
    """Tell the rarest type, its cells, the share that its best cluster holds, and others' cells in there."""
    types, counts = np.unique(labels, return_counts=True)
    rarest = str(types[counts.argmin()])
    of_type = labels == rarest
    names, inside = np.unique(clusters[of_type], return_counts=True)
    others = int(((clusters == names[inside.argmax()]) & ~of_type).sum())
    return rarest, int(of_type.sum()), float(inside.max() / of_type.sum()), others


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path)
    parser.add_argument("--method", default="VMM", help="its own clusters are compared")
    parser.add_argument("--other", default="scVI", help="Leiden runs on its embedding")
    parser.add_argument("--rare", nargs="*", default=["nested_rare"], help="sets for the last table")
    arguments = parser.parse_args()
    results = read_results(arguments.results)
    datasets = [name for name in results.datasets if results.is_done(name, arguments.method)]
    for row in (clusters_row, run_row):
        table = pd.DataFrame([row(results, name, arguments.method, arguments.other) for name in datasets])
        sys.stdout.write(table.to_markdown(index=False) + "\n\n")
    rare = []
    for dataset in arguments.rare:
        for run in results.of(dataset, arguments.method):
            if (clusters := own_clusters(run)) is not None:
                labels = read_arrays(run.folder / _schema.EMBEDDING_FILE)["labels"]
                rare.append((dataset, run.seed, *rarest_type(labels, clusters)))
    columns = ["data", "seed", "rarest type", "cells", "share in one cluster", "other cells in it"]
    sys.stdout.write(pd.DataFrame(rare, columns=columns).round(3).to_markdown(index=False) + "\n")


if __name__ == "__main__":
    main()
