"""How much of an embedding's variance batches explain, and how much of that is their composition of types.

    vmmscvi benchmark run --config benchmarks/paper_table3_4.yaml --data DIR --out results/tables
    python benchmarks/batch_variance.py results/tables --datasets cellbench kang_8donors pbmc_2src

scIB's "PCR comparison" is one minus the share of variance that batches explain, over what it was before
integration. Where batches hold other proportions of the types, batches explain variance however well cells
are mixed: the more, the further types are apart. The second share is of the variance that batches explain
within types; no composition enters there.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vmmscvi.benchmark._files import read_arrays
from vmmscvi.benchmark._report_data import read_results
from vmmscvi.benchmark._schema import EMBEDDING_FILE


def explained(z: NDArray[np.floating], groups: NDArray[np.str_]) -> float:
    """Sum over cells and dimensions of what the means of groups explain."""
    means = pd.DataFrame(z).groupby(groups).transform("mean").to_numpy()
    return float(((means - z.mean(0)) ** 2).sum())


def shares(arrays: dict[str, NDArray]) -> dict[str, float]:
    """Shares of the variance that batches explain: of all, and within types."""
    z, batch, types = arrays["z"].astype(float), arrays["batch"], arrays["labels"]
    total = ((z - z.mean(0)) ** 2).sum()
    within = sum(explained(z[types == name], batch[types == name]) for name in np.unique(types))
    return {
        "batches": explained(z, batch) / total,
        "batches within types": within / total,
        "types": explained(z, types) / total,
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path)
    parser.add_argument("--datasets", nargs="+", required=True)
    parser.add_argument("--methods", nargs="+", default=["VMM", "GMM", "VampPrior", "N(0, I)"])
    arguments = parser.parse_args()
    results = read_results(arguments.results)
    rows = [
        {
            "dataset": dataset,
            "method": method,
            "seed": run.seed,
            **shares(read_arrays(run.folder / EMBEDDING_FILE)),
        }
        for dataset in arguments.datasets
        for method in arguments.methods
        for run in results.of(dataset, method)
        if run.status == "done"
    ]
    table = pd.DataFrame(rows).groupby(["dataset", "method"], sort=False).mean().drop(columns="seed")
    sys.stdout.write(table.round(3).to_markdown() + "\n")


if __name__ == "__main__":
    main()
