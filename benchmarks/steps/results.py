"""Scores of an experiment, read from its folder, and statistics over seeds."""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import ttest_rel
from sklearn.metrics import adjusted_rand_score
from statsmodels.stats.multitest import multipletests

SIGNIFICANCE = 0.05
COST = {"cpu_time": "cpu_seconds", "s": "seconds", "max_rss": "peak_memory_mb"}
"""Columns of Snakemake's ``benchmark`` file, and what they are called here. They include the imports."""


def read_scores(results: Path, datasets: list[str] | None, methods: list[str] | None) -> pd.DataFrame:
    """Return all scores under a folder, a row for each number, with time and memory of the training.

    Parameters
    ----------
    results
        Folder of an experiment.
    datasets, methods
        Names, in the order in which tables and figures have them; all in alphabetical order by default.

    Raises
    ------
    ValueError
        If there are no scores of these.
    """
    parts = []
    for file in sorted(results.glob("*/*/seed*/scores.csv")):
        scores = pd.read_csv(file, keep_default_na=False)
        head = scores.loc[0, ["dataset", "method", "seed"]].to_dict()
        parts.append(scores.assign(folder=str(file.parent)))
        if (cost := file.with_name("train.tsv")).is_file():
            found = (
                pd.read_csv(cost, sep="\t", na_values="-").rename(columns=COST)[list(COST.values())].iloc[0]
            )
            rows = pd.DataFrame({"measure": found.index, "value": found.to_numpy(float)})
            parts.append(rows.assign(clustering="", uses_labels=False, folder=str(file.parent), **head))
    if not parts:
        raise ValueError(f"{results} holds no scores; expected DATASET/METHOD/seedN/scores.csv.")
    table = pd.concat(parts, ignore_index=True)
    for column, names in (("dataset", datasets), ("method", methods)):
        order = [name for name in names or sorted(table[column].unique()) if name in set(table[column])]
        table[column] = pd.Categorical(table[column], order)
    table = table.dropna(subset=["dataset", "method"])
    if table.empty:
        raise ValueError(f"{results} has no scores of {datasets} with {methods}.")
    return table.sort_values(["dataset", "method", "seed"], kind="stable", ignore_index=True)


def trials(scores: pd.DataFrame, clustering: str, measure: str) -> pd.Series:
    """Return a measure by dataset, method and seed."""
    chosen = scores[(scores["clustering"] == clustering) & (scores["measure"] == measure)]
    index = [chosen[key].astype(str) for key in ("dataset", "method")] + [chosen["seed"]]
    return pd.Series(chosen["value"].to_numpy(float), pd.MultiIndex.from_arrays(index), name=measure)


def number_of(scores: pd.DataFrame, dataset: str, measure: str) -> int:
    """Return a size of a dataset, such as its ``n_types``."""
    return int(trials(scores, "", measure)[dataset].iloc[0])


def compare_with_best(values: pd.DataFrame, higher_is_better: bool = True) -> pd.Series:
    """Compare methods with the one of the best mean, by paired t-tests over seeds.

    Seeds pair the methods, which have the same data, split and initial weights. With five seeds a rank test
    cannot come below p = 0.06, Student's can. The best is chosen on the same seeds, which makes tests a
    little liberal.

    Parameters
    ----------
    values
        A row for each seed, a column for each method. The best is one with the most seeds.
    higher_is_better
        Whether the best has the largest mean.

    Returns
    -------
    p-value of each method, adjusted after Holm; 1 for the best, NaN where there is nothing to test.
    """
    values = values.dropna(axis=1, how="all")
    complete = values.loc[:, values.notna().sum() == values.notna().sum().max()]
    best = complete.mean().idxmax() if higher_is_better else complete.mean().idxmin()
    p = pd.Series({name: paired_p(column, values[best]) for name, column in values.items() if name != best})
    tested = p.dropna().index if len(p) else []
    if len(tested):
        p[tested] = multipletests(p[tested], method="holm")[1]
    return pd.concat([pd.Series({best: 1.0}), p])


def paired_p(first: pd.Series, second: pd.Series) -> float:
    """p-value of a paired t-test over the seeds that both have; NaN with fewer than two of them."""
    difference = (first - second).dropna()
    if len(difference) < 2:
        return float("nan")
    if np.ptp(difference) == 0:
        return float(difference.iloc[0] == 0)
    return float(ttest_rel(first[difference.index], second[difference.index]).pvalue)


def between_seeds(scores: pd.DataFrame, dataset: str, method: str, clustering: str) -> pd.Series:
    """Return the adjusted Rand index of the clusters of every pair of seeds."""
    own = scores[(scores["dataset"] == dataset) & (scores["method"] == method)]
    files = [Path(folder) / "clusters.csv.gz" for folder in own["folder"].unique()]
    columns = [pd.read_csv(file, index_col=0, dtype=str).get(clustering) for file in files if file.is_file()]
    clusters = [column for column in columns if column is not None]
    return pd.Series([adjusted_rand_score(a, b) for a, b in itertools.combinations(clusters, 2)], dtype=float)


def parser(description: str | None) -> argparse.ArgumentParser:
    """Command line that tables and figures share."""
    found = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    found.add_argument("results", type=Path, help="folder of an experiment")
    found.add_argument("--datasets", nargs="+", help="these only, in this order")
    found.add_argument("--methods", nargs="+", help="these only, in this order")
    found.add_argument("--out", type=Path, required=True, help="folder, made if it is not there")
    return found
