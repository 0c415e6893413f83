"""Agreement of clusters between seeds: a prior's own, beside Leiden's on the embedding of another method.

    vmmscvi benchmark run --config benchmarks/paper_table3_4.yaml --data DIR --out results/tables
    python benchmarks/stability.py results/tables --datasets cellbench pbmc_2src

Mean adjusted Rand index over all pairs of seeds. Leiden at resolution 1 runs on a graph of 15 neighbours, as
in the benchmark.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from numpy.typing import NDArray

from vmmscvi.benchmark._clusterings import leiden, neighbor_graph
from vmmscvi.benchmark._files import read_arrays
from vmmscvi.benchmark._report_data import Run, read_results
from vmmscvi.benchmark._schema import DONE, EMBEDDING_FILE
from vmmscvi.benchmark._statistics import stability
from vmmscvi.benchmark._tables_runs import own_clusters


def leiden_clusters(run: Run) -> NDArray | None:
    """Return Leiden's clusters of the embedding at resolution 1; ``None`` if there is none."""
    if run.status != DONE:
        return None
    return leiden(neighbor_graph(read_arrays(run.folder / EMBEDDING_FILE)["z"], seed=0), 1.0, seed=0)


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
    columns: list[tuple[str, str, Callable[[Run], NDArray | None]]] = [
        *((method, method, own_clusters) for method in arguments.own),
        *((f"{method} + Leiden", method, leiden_clusters) for method in arguments.leiden),
    ]
    rows = []
    for dataset in arguments.datasets:
        row: dict[str, object] = {"dataset": dataset}
        for name, method, clusters_of in columns:
            found = {run.seed: clusters_of(run) for run in results.of(dataset, method)}
            clusters = {seed: each for seed, each in found.items() if each is not None}
            row[name] = stability(clusters).mean
            row[f"{name}, seeds"] = len(clusters)
        rows.append(row)
    sys.stdout.write(pd.DataFrame(rows).round(3).to_markdown(index=False) + "\n")


if __name__ == "__main__":
    main()
