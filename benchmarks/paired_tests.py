"""Differences between methods over the seeds of a benchmark, with paired t-tests; unadjusted p-values.

    vmmscvi benchmark run --config benchmarks/paper_table3_4.yaml --data DIR --out results/tables
    python benchmarks/paired_tests.py results/tables --method VMM --others GMM "N(0, I)" "scVI, defaults"

scIB's total, bio conservation, and the total without the PCR comparison (batch correction then is the mean of
the other measures); NMI of the first method's own clusters against Leiden's at resolution 1 on the others.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from vmmscvi.benchmark import _schema
from vmmscvi.benchmark._report_data import ReportData, read_results
from vmmscvi.benchmark._statistics import paired_t_test

PCR = "PCR comparison"
WITHOUT_PCR = "Total without PCR"
BIO_WEIGHT = 0.6
"""Weight of bio conservation in scIB's total."""


def values(results: ReportData, dataset: str, method: str, measure: str, is_first: bool) -> pd.Series:
    """Values of a measure by seed."""
    if measure == _schema.NMI:
        return results.trials(dataset, method, _schema.OWN if is_first else _schema.LEIDEN_1, measure)
    if measure != WITHOUT_PCR:
        return results.trials(dataset, method, _schema.NO_CLUSTERING, measure)
    of_batches = [
        results.trials(dataset, method, _schema.NO_CLUSTERING, name)
        for name in _schema.BATCH_MEASURES
        if name != PCR
    ]
    bio = results.trials(dataset, method, _schema.NO_CLUSTERING, _schema.BIO_CONSERVATION)
    return BIO_WEIGHT * bio + (1.0 - BIO_WEIGHT) * pd.concat(of_batches, axis=1).mean(axis=1, skipna=False)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path)
    parser.add_argument("--method", default="VMM")
    parser.add_argument("--others", nargs="+", default=["GMM", "N(0, I)", "scVI, defaults"])
    arguments = parser.parse_args()
    results = read_results(arguments.results)
    rows = []
    for dataset in results.datasets:
        for other in arguments.others:
            for measure in (_schema.TOTAL, _schema.BIO_CONSERVATION, WITHOUT_PCR, _schema.NMI):
                first = values(results, dataset, arguments.method, measure, is_first=True)
                second = values(results, dataset, other, measure, is_first=False)
                p_value, n_pairs = paired_t_test(first, second.reindex(first.index))
                if n_pairs:
                    mean, difference = np.nanmean(second), np.nanmean(first - second)
                    rows.append(
                        (dataset, other, measure, np.nanmean(first), mean, difference, p_value, n_pairs)
                    )
    columns = ["dataset", "other", "measure", arguments.method, "the other", "difference", "p", "pairs"]
    sys.stdout.write(pd.DataFrame(rows, columns=columns).round(3).to_markdown(index=False) + "\n")


if __name__ == "__main__":
    main()
