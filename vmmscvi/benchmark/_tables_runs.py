"""The tables of a report about its trials: agreement between seeds, time and memory, and what is missing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vmmscvi.benchmark import _schema
from vmmscvi.benchmark._files import read_arrays
from vmmscvi.benchmark._report_data import ReportData, Run
from vmmscvi.benchmark._statistics import stability
from vmmscvi.benchmark._tables import NOT_APPLICABLE, Cell, Column, Row, RowKey, Table, measured_rows
from vmmscvi.benchmark._tables_content import SPREAD, titled

COST = (
    # not compared: times depend on what else ran, and methods without training win trivially
    Column("Validation ELBO", _schema.ELBO_VALIDATION, "", digits=1, higher_is_better=None),
    Column("Epochs", _schema.N_EPOCHS, "", digits=0, higher_is_better=None),
    Column("Wall time (s)", _schema.TRAIN_SECONDS, "", digits=1, higher_is_better=None),
    Column("CPU time (s)", _schema.TRAIN_CPU_SECONDS, "", digits=1, higher_is_better=None),
    Column("Peak memory (GB)", _schema.PEAK_MEMORY_MB, "", digits=2, higher_is_better=None, scale=1 / 1024),
)


def stability_table(data: ReportData) -> Table:
    """Return how well the prior's own clusters agree between seeds."""
    column = Column("ARI between seeds", "stability", digits=3, higher_is_better=None)
    rows: list[Row] = []
    for dataset in data.datasets:
        for method in data.methods(dataset):
            runs = data.of(dataset, method)
            found = {run.seed: clusters for run in runs if (clusters := own_clusters(run)) is not None}
            if not found and data.is_done(dataset, method):
                continue
            summary = stability(found)
            n_pairs = len(runs) * (len(runs) - 1) // 2
            status = "" if summary.n else ("one trial" if found else _status(runs))
            row = Row((dataset, method, f"{summary.n}"), (Cell(summary, n_pairs, None, status),))
            rows += titled(data, dataset, [row])
    return Table(
        "stability",
        "Stability of the prior's own clusters",
        ("Dataset", "Method", "Pairs of seeds"),
        (column,),
        tuple(rows),
        (
            "Mean ± standard deviation of the adjusted Rand index over all pairs of seeds, "
            "which differ in initial weights and in the split into training and validation cells. Pairs "
            "share seeds: no test.",
        ),
    )


def cost_table(data: ReportData) -> Table:
    """Return time, memory, epochs and validation ELBO."""
    rows: list[Row] = []
    for dataset in data.datasets:
        keys = [RowKey(method, (method,)) for method in data.methods(dataset)]
        rows += titled(data, dataset, measured_rows(data, dataset, keys, COST))
    return Table(
        "time_and_memory",
        "Validation ELBO, time and memory of training",
        ("Dataset", "Method"),
        COST,
        tuple(rows),
        (
            SPREAD,
            "Validation ELBO: nats per cell, larger is better, not to be compared between likelihoods. Wall "
            "times of cells that ran beside each other, or beside other work, are longer than alone; compare "
            "CPU time.",
        ),
    )


def missing_table(data: ReportData) -> Table:
    """Return the cells without scores, and why."""
    missing = [run for run in data.runs if run.status != _schema.DONE]
    rows = [
        Row((run.dataset, run.method, str(run.seed), run.status, " ".join(run.error.split())[:200]), ())
        for run in missing
    ]
    return Table(
        "missing",
        "Cells without scores",
        ("Dataset", "Method", "Seed", "Status", "Error"),
        (),
        tuple(rows),
        ("They do not count in the other tables, where the number of trials that do is given.",),
    )


def own_clusters(run: Run) -> NDArray[np.str_] | None:
    """Return the prior's own clusters of all cells, ``(n_obs,)``; ``None`` if there are none."""
    file = run.folder / _schema.EMBEDDING_FILE
    if run.status != _schema.DONE or not file.is_file():
        return None
    clusters = read_arrays(file)["clusters"]
    return clusters if clusters.size else None


def _status(runs: Sequence[Run]) -> str:
    return next((run.status for run in runs if run.status != _schema.DONE), NOT_APPLICABLE)
