"""Score one cell from its files; runs in a process of its own, whose threads cannot disturb a training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
from numpy.typing import NDArray

from vmmscvi.benchmark import _files, _schema
from vmmscvi.benchmark._cells import Cell
from vmmscvi.benchmark._clusterings import kmeans, leiden, leiden_best, neighbor_graph
from vmmscvi.benchmark._data import fixed_sample, unintegrated_components
from vmmscvi.benchmark._measures import agreement, merge_by_label
from vmmscvi.benchmark._scib import scib_measures

Row = tuple[str, str, float]
"""Clustering, measure, value."""


def score_cell(cell: Cell) -> None:
    """Compute all scores of a trained cell and write them; the record of the run says that it is done."""
    record = cell.record()
    arrays = _files.read_arrays(cell.folder / _schema.EMBEDDING_FILE)
    rows = [
        *_run_rows(record),
        *_clustering_rows(cell, record, arrays),
        *_scib_rows(cell, arrays),
    ]
    _files.write_table(cell.folder / _schema.SCORES_FILE, tidy(cell, rows))
    cell.update_record(status=_schema.DONE, error=None, scoring=dict(cell.scoring))


def tidy(cell: Cell, rows: list[Row]) -> pd.DataFrame:
    """Return scores as rows of the table of results."""
    table = pd.DataFrame(rows, columns=[_schema.CLUSTERING, _schema.MEASURE, _schema.VALUE])
    table[_schema.DATASET] = cell.dataset.name
    table[_schema.METHOD] = cell.method.name
    table[_schema.SEED] = cell.seed
    table[_schema.USES_LABELS] = table[_schema.CLUSTERING].isin(_schema.LABEL_CLUSTERINGS)
    return table[list(_schema.COLUMNS)]


def _run_rows(record: dict[str, Any]) -> Iterator[Row]:
    for measure in _schema.RUN_MEASURES:
        if record.get(measure) is not None:
            yield _schema.NO_CLUSTERING, measure, float(record[measure])


def _clustering_rows(cell: Cell, record: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Iterator[Row]:
    z, labels, asked = arrays["z"], arrays["labels"], cell.scoring["clusterings"]
    own = arrays["clusters"]
    if _schema.OWN in asked and own.size:
        yield from _rows(_schema.OWN, agreement(labels, own))
        yield from _rows(_schema.OWN_MERGED, agreement(labels, merge_by_label(labels, own)))
        yield _schema.OWN, _schema.N_CLUSTERS_BY_WEIGHT, float(record["n_clusters_by_weight"])
    if {_schema.LEIDEN_1, _schema.LEIDEN_BEST} & set(asked):
        graph = neighbor_graph(z, cell.seed)
        if _schema.LEIDEN_1 in asked:
            yield from _rows(_schema.LEIDEN_1, agreement(labels, leiden(graph, 1.0, cell.seed)))
            yield _schema.LEIDEN_1, _schema.RESOLUTION, 1.0
        if _schema.LEIDEN_BEST in asked:
            clusters, resolution = leiden_best(graph, labels, cell.seed)
            yield from _rows(_schema.LEIDEN_BEST, agreement(labels, clusters))
            yield _schema.LEIDEN_BEST, _schema.RESOLUTION, resolution
    if _schema.KMEANS in asked:
        yield from _rows(_schema.KMEANS, agreement(labels, kmeans(z, labels, cell.seed)))


def _rows(clustering: str, scores: dict[str, float]) -> Iterator[Row]:
    return ((clustering, measure, value) for measure, value in scores.items())


def _scib_rows(cell: Cell, arrays: dict[str, NDArray[Any]]) -> Iterator[Row]:
    if not cell.scoring["scib"]:
        return
    cells = fixed_sample(len(arrays["z"]), cell.scoring["scib_max_cells"])
    unintegrated = unintegrated_components(cell.dataset)
    scores = scib_measures(
        arrays["z"][cells], arrays["labels"][cells], arrays["batch"][cells], unintegrated[cells]
    )
    yield from _rows(_schema.NO_CLUSTERING, scores)
