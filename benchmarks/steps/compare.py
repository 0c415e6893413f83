"""One method beside others over all seeds: own clusters against Leiden's, paired tests, the rarest type.

    python compare.py results/clusters --method VMM --others scVI --out results/clusters/tables

Numbers of clusters are the smallest and the largest of all seeds, scores are means; p-values of paired
t-tests are unadjusted. "Ten starts" replaces scib-metrics' k-means, which starts once and may join two types
that are far apart.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from results import between_seeds, number_of, paired_p, parser, read_scores, trials
from tables import BATCH_CORRECTION, BIO

BIO_WEIGHT = 0.6
"""Weight of bio conservation in scIB's total."""


def found(scores: pd.DataFrame, clustering: str, measure: str, dataset: str, method: str) -> pd.Series:
    """Return a measure by seed; empty if there is none."""
    values = trials(scores, clustering, measure)
    chosen = values[
        (values.index.get_level_values(0) == dataset) & (values.index.get_level_values(1) == method)
    ]
    return chosen.droplevel([0, 1])


def in_words(scores: pd.DataFrame, dataset: str, method: str, clustering: str) -> str:
    """Return numbers of clusters, mean NMI and mean ARI."""
    n, nmi, ari = (found(scores, clustering, m, dataset, method) for m in ("n_clusters", "nmi", "ari"))
    if n.empty:
        return ""
    numbers = "-".join(f"{value:.0f}" for value in sorted({n.min(), n.max()}))
    return f"{numbers}, {nmi.mean():.3f}, {ari.mean():.3f}"


def against_leiden(scores: pd.DataFrame, method: str, other: str) -> pd.DataFrame:
    """Return own clusters of a method beside Leiden's on the embedding of another."""

    def stability(name: str, clustering: str) -> str:
        pairs = between_seeds(scores, dataset, name, clustering)
        return f"{pairs.mean():.3f} ({len(pairs)} pairs)" if len(pairs) else ""

    rows = []
    for dataset in scores["dataset"].unique():
        rows.append(
            {
                "data (types)": f"{dataset} ({number_of(scores, dataset, 'n_types')})",
                f"{method}: clusters, NMI, ARI": in_words(scores, dataset, method, "own"),
                f"{other} + Leiden, resolution 1": in_words(scores, dataset, other, "leiden_1"),
                f"{other} + Leiden, best resolution†": in_words(scores, dataset, other, "leiden_best"),
                f"between seeds: {method}": stability(method, "own"),
                f"{other} + Leiden": stability(other, "leiden_1"),
            }
        )
    return pd.DataFrame(rows)


def differences(scores: pd.DataFrame, method: str, others: list[str]) -> pd.DataFrame:
    """Return a row for each dataset, other method and measure, with the p-value of a paired t-test.

    NMI is that of the method's own clusters against Leiden's at resolution 1 on the other.
    """

    def of(measure: str, name: str) -> pd.Series:
        if measure == "NMI":
            return found(scores, "own" if name == method else "leiden_1", "nmi", dataset, name)
        if measure == "Total without PCR":
            kept = [found(scores, "", m, dataset, name) for m in BATCH_CORRECTION if m != "PCR comparison"]
            bio = found(scores, "", "Bio conservation", dataset, name)
            return BIO_WEIGHT * bio + (1 - BIO_WEIGHT) * pd.concat(kept, axis=1).mean(axis=1, skipna=False)
        if measure == "Total, k-means with ten starts":
            gain = [
                found(scores, "kmeans", m.lower(), dataset, name)
                - found(scores, "", f"KMeans {m}", dataset, name)
                for m in ("NMI", "ARI")
            ]
            return found(scores, "", "Total", dataset, name) + BIO_WEIGHT * sum(gain) / len(BIO)
        return found(scores, "", measure, dataset, name)

    rows = []
    for dataset in scores["dataset"].unique():
        for other in others:
            for measure in (
                "Total", "Bio conservation", "Total without PCR", "Total, k-means with ten starts", "NMI",
                "cpu_seconds", "elbo_validation",
            ):  # fmt: skip
                first, second = of(measure, method).align(of(measure, other), join="inner")
                n = int((first - second).notna().sum())
                if n:
                    means = (first.mean(), second.mean(), (first - second).mean())
                    rows.append((dataset, other, measure, *means, paired_p(first, second), n))
    columns = ["dataset", "other", "measure", method, "the other", "difference", "p", "pairs"]
    return pd.DataFrame(rows, columns=columns).round(3)


def rarest_type(labels: np.ndarray, clusters: np.ndarray) -> tuple[str, int, float, int]:
    """Return the rarest type, its cells, the share that its best cluster holds, and others' cells in it."""
    types, counts = np.unique(labels, return_counts=True)
    rarest = str(types[counts.argmin()])
    of_type = labels == rarest
    names, inside = np.unique(clusters[of_type], return_counts=True)
    others = int(((clusters == names[inside.argmax()]) & ~of_type).sum())
    return rarest, int(of_type.sum()), float(inside.max() / of_type.sum()), others


def rare(scores: pd.DataFrame, method: str, datasets: list[str]) -> pd.DataFrame:
    """Return what became of the rarest type of some datasets."""
    rows = []
    own = scores[(scores["method"] == method) & scores["dataset"].isin(datasets)]
    for dataset, seed, folder in own[["dataset", "seed", "folder"]].drop_duplicates().itertuples(index=False):
        clusters = pd.read_csv(Path(folder) / "clusters.csv.gz", index_col=0, dtype=str)
        if "own" in clusters:
            rows.append(
                (dataset, seed, *rarest_type(clusters["cell_type"].to_numpy(), clusters["own"].to_numpy()))
            )
    columns = ["data", "seed", "rarest type", "cells", "share in one cluster", "other cells in it"]
    return pd.DataFrame(rows, columns=columns).round(3)


def main() -> None:
    """Command line."""
    command = parser(__doc__)
    command.add_argument("--method", required=True, help="its own clusters are compared")
    command.add_argument("--others", nargs="+", required=True, help="Leiden runs on their embeddings")
    command.add_argument("--rare", nargs="*", default=[], help="data sets for the table of the rarest type")
    arguments = command.parse_args()
    scores = read_scores(arguments.results, arguments.datasets, arguments.methods)
    parts = [against_leiden(scores, arguments.method, other) for other in arguments.others]
    parts.append(differences(scores, arguments.method, arguments.others))
    parts.append(rare(scores, arguments.method, arguments.rare))
    arguments.out.mkdir(parents=True, exist_ok=True)
    text = "\n\n".join(part.to_markdown(index=False) for part in parts if len(part))
    (arguments.out / "comparison.md").write_text(text + "\n")


if __name__ == "__main__":
    main()
