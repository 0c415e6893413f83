"""Agreement of clusters between seeds: a prior's own, beside Leiden's on the embedding of another method.

    vmmscvi benchmark run --config benchmarks/paper_table3_4.yaml --data DIR --out results/tables
    python benchmarks/stability.py results/tables --datasets cellbench pbmc_2src

Mean adjusted Rand index over all pairs of seeds. Leiden at resolution 1 runs on a graph of 15 neighbours, as
in the benchmark.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from vmmscvi.benchmark._clusterings import leiden, neighbor_graph
from vmmscvi.benchmark._files import read_arrays
from vmmscvi.benchmark._report_data import read_results
from vmmscvi.benchmark._schema import EMBEDDING_FILE


def agreement(clusterings: Sequence[NDArray]) -> float:
    """Mean ARI over all pairs; NaN for fewer than two."""
    scores = [adjusted_rand_score(a, b) for a, b in combinations(clusterings, 2)]
    return float(np.mean(scores)) if scores else float("nan")


def own(arrays: dict[str, NDArray]) -> NDArray:
    """Return the clusters of the prior."""
    return arrays["clusters"]


def by_leiden(arrays: dict[str, NDArray]) -> NDArray:
    """Return Leiden's clusters of the embedding at resolution 1."""
    return leiden(neighbor_graph(arrays["z"], seed=0), 1.0, seed=0)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path)
    parser.add_argument("--datasets", nargs="+", required=True)
    parser.add_argument("--own", nargs="*", default=["VMM"], help="methods whose own clusters are compared")
    parser.add_argument("--leiden", nargs="*", default=["scVI, defaults"], help="methods to run Leiden on")
    arguments = parser.parse_args()
    results = read_results(arguments.results)
    columns: list[tuple[str, str, Callable[[dict[str, NDArray]], NDArray]]] = [
        *((method, method, own) for method in arguments.own),
        *((f"{method} + Leiden", method, by_leiden) for method in arguments.leiden),
    ]
    rows = []
    for dataset in arguments.datasets:
        row: dict[str, object] = {"dataset": dataset}
        for name, method, clusters_of in columns:
            done = [run for run in results.of(dataset, method) if run.status == "done"]
            row[name] = agreement([clusters_of(read_arrays(run.folder / EMBEDDING_FILE)) for run in done])
            row[f"{name}, seeds"] = len(done)
        rows.append(row)
    sys.stdout.write(pd.DataFrame(rows).round(3).to_markdown(index=False) + "\n")


if __name__ == "__main__":
    main()
