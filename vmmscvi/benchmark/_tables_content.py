"""The tables of a report: which rows, which columns, and what has to be said about them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vmmscvi.benchmark import _schema
from vmmscvi.benchmark._report_data import ReportData
from vmmscvi.benchmark._tables import (
    Column,
    Row,
    RowKey,
    Table,
    measured_rows,
)
from vmmscvi.benchmark._tables_paper import (
    FROM_PAPER,
    SILHOUETTE_BATCH,
    TABLE3_OF_PAPER,
    TABLE4_OF_PAPER,
    PaperRows,
)

CLUSTERING_NAMES = {
    _schema.OWN: "own clusters",
    _schema.LEIDEN_1: "Leiden, resolution 1",
    _schema.LEIDEN_BEST: "Leiden, best resolution",
    _schema.KMEANS: "K-means, true number",
}

CLUSTERS_TITLE = "Clusters"

TABLE3 = (
    Column(CLUSTERS_TITLE, _schema.N_CLUSTERS, _schema.OWN, digits=1, higher_is_better=None),
    Column("Accuracy, merged", _schema.ACCURACY, _schema.OWN_MERGED, uses_labels=True),
    Column("NMI, merged", _schema.NMI, _schema.OWN_MERGED, uses_labels=True),
    Column("NMI", _schema.NMI, _schema.OWN),
    Column("ARI", _schema.ARI, _schema.OWN),
    Column("AMI", _schema.AMI, _schema.OWN),
    Column("Accuracy", _schema.ACCURACY, _schema.OWN),
)
TABLE4 = tuple(
    Column(measure, measure, _schema.NO_CLUSTERING)
    for measure in (
        _schema.TOTAL,
        _schema.BIO_CONSERVATION,
        _schema.BATCH_CORRECTION,
        *_schema.BIO_MEASURES,
        *_schema.BATCH_MEASURES,
    )
)
SCORES = (
    Column(CLUSTERS_TITLE, _schema.N_CLUSTERS, digits=1, higher_is_better=None),
    Column("NMI", _schema.NMI),
    Column("ARI", _schema.ARI),
    Column("AMI", _schema.AMI),
    Column("Accuracy", _schema.ACCURACY),
)

SPREAD = (
    "Mean ± standard deviation over trials (seeds); the trials of each dataset are given beside its name."
)
TESTS = (
    "Bold: best mean of its column within the dataset, and what paired t-tests over trials do not tell apart "
    "from it (p ≥ 0.05 after Holm's adjustment for the number of methods); with few trials that may not say "
    "much. With a single trial there is no test: only the best is bold."
)
LABELS = (
    "†: labels chose something about it, which an unsupervised analysis does not have; rows with † take no "
    "part in the comparison. All scores compare with labels."
)
AMI_NOTE = (
    "AMI, adjusted mutual information, is what the paper calls ARI; ARI here is the adjusted Rand index."
)


def dataset_title(data: ReportData, dataset: str) -> str:
    """Return the name of a dataset with its trials, as ``"cortex (n = 5)"``."""
    return f"{dataset} (n = {len({run.seed for run in data.runs if run.dataset == dataset})})"


def clustering_table(data: ReportData, reference: Path | None = None) -> Table:
    """Return our version of the paper's Table 3: the prior's own clusters, merged by label and unmerged."""
    rows: list[Row] = []
    paper = PaperRows(reference, "table3*.csv", lambda row: str(row["prior"]))
    for dataset in data.datasets:
        keys = [
            RowKey(method, (_types(data, dataset), method))
            for method in data.methods(dataset)
            if _has(data, dataset, method, _schema.OWN) or not data.is_done(dataset, method)
        ]
        rows += titled(data, dataset, measured_rows(data, dataset, keys, TABLE3))
        rows += paper.rows(dataset, TABLE3_OF_PAPER, types="cell_types")
    rows += paper.remaining(TABLE3_OF_PAPER, types="cell_types")
    merged = "Merged: clusters are merged by the label that most of their cells have, as the paper does."
    return Table(
        "table3_clustering",
        "Clusters of mixture priors (the paper's Table 3)",
        ("Dataset", "Types", "Method"),
        TABLE3,
        tuple(rows),
        (SPREAD, TESTS, LABELS, merged, AMI_NOTE, *([FROM_PAPER] if paper.found else [])),
    )


def integration_table(data: ReportData, reference: Path | None = None) -> Table:
    """Return our version of the paper's Table 4: scIB's measures and their aggregates."""
    paper = PaperRows(
        reference, "table4*.csv", lambda row: f"{row['model']}, {row['prior']}".replace("N(0,I)", "N(0, I)")
    )
    columns = (*TABLE4, SILHOUETTE_BATCH) if paper.found else TABLE4
    of_paper = tuple(TABLE4_OF_PAPER.get(column.measure) for column in columns)
    rows: list[Row] = []
    for dataset in data.datasets:
        keys = [RowKey(method, (method,)) for method in data.methods(dataset)]
        rows += titled(data, dataset, measured_rows(data, dataset, keys, columns))
        rows += paper.rows(dataset, of_paper)
    rows += paper.remaining(of_paper)
    notes = [
        SPREAD,
        TESTS,
        "Total: 0.6 bio conservation + 0.4 batch correction. One batch: no batch correction.",
    ]
    if paper.found:
        versions = (
            "The paper's scib-metrics was an older one: its batch correction has Silhouette batch, not BRAS."
        )
        notes += [FROM_PAPER, versions]
    return Table(
        "table4_integration",
        "Integration, scIB's measures (the paper's Table 4)",
        ("Dataset", "Method"),
        columns,
        tuple(rows),
        tuple(notes),
    )


def clusterings_table(data: ReportData) -> Table:
    """Return scores of all clusterings of all embeddings, unmerged."""
    rows: list[Row] = []
    for dataset in data.datasets:
        keys = [
            RowKey(method, (method, name), clustering, clustering in _schema.LABEL_CLUSTERINGS)
            for method in data.methods(dataset)
            for clustering, name in _clusterings(data, dataset, method).items()
        ]
        rows += titled(data, dataset, measured_rows(data, dataset, keys, SCORES))
    return Table(
        "clusterings",
        "All clusterings against the annotation, unmerged",
        ("Dataset", "Method", "Clustering"),
        SCORES,
        tuple(rows),
        (SPREAD, TESTS, LABELS, AMI_NOTE),
    )


def numbers_table(data: ReportData) -> Table:
    """Return how many clusters were found for how many annotated types."""
    columns = (
        Column(CLUSTERS_TITLE, _schema.N_CLUSTERS, digits=1, higher_is_better=None),
        Column("Found / annotated", _schema.N_CLUSTERS, digits=2, higher_is_better=None),
    )
    rows: list[Row] = []
    for dataset in data.datasets:
        n_types = data.sizes.get(dataset, {}).get("n_types", 0)
        scaled = (columns[0], Column(**{**vars(columns[1]), "scale": 1 / n_types if n_types else np.nan}))
        keys = [
            RowKey(method, (_types(data, dataset), method, CLUSTERING_NAMES[clustering]), clustering)
            for method in data.methods(dataset)
            for clustering in _clusterings(data, dataset, method)
            if clustering not in _schema.LABEL_CLUSTERINGS
        ]
        rows += titled(data, dataset, measured_rows(data, dataset, keys, scaled))
    return Table(
        "clusters_against_types",
        "Clusters found against annotated types",
        ("Dataset", "Types", "Method", "Clustering"),
        columns,
        tuple(rows),
        (SPREAD, "Clusterings whose number of clusters was chosen by labels are left out."),
    )


def _clusterings(data: ReportData, dataset: str, method: str) -> dict[str, str]:
    """Clusterings with scores, by their names; of a method without any, what stands for it is one row."""
    found = {key: name for key, name in CLUSTERING_NAMES.items() if _has(data, dataset, method, key)}
    return found or {_schema.LEIDEN_1: CLUSTERING_NAMES[_schema.LEIDEN_1]}


def _has(data: ReportData, dataset: str, method: str, clustering: str) -> bool:
    return bool(data.trials(dataset, method, clustering, _schema.N_CLUSTERS).notna().any())


def _types(data: ReportData, dataset: str) -> str:
    return str(data.sizes[dataset]["n_types"]) if dataset in data.sizes else ""


def titled(data: ReportData, dataset: str, rows: Sequence[Row]) -> list[Row]:
    """Write the number of trials beside the name of the dataset."""
    title = dataset_title(data, dataset)
    return [Row((title, *row.labels[1:]), row.cells, row.uses_labels, row.from_paper) for row in rows]
