"""The paper's numbers, as rows beside ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from vmmscvi.benchmark import _schema
from vmmscvi.benchmark._tables import NOT_APPLICABLE, Cell, Column, Row, paper_cell

TABLE3_OF_PAPER = ("utilized_clusters", "accuracy", "nmi_merged", "nmi_unmerged", None, None, None)
"""The paper's column for each of ours."""

SILHOUETTE_BATCH = Column("Silhouette batch", "Silhouette batch", _schema.NO_CLUSTERING)
"""In the paper's table alone: scib-metrics has replaced it by BRAS."""

TABLE4_OF_PAPER = {
    "Total": "total",
    "Bio conservation": "bio_conservation",
    "Batch correction": "batch_correction",
    "Isolated labels": "isolated_labels",
    "KMeans NMI": "kmeans_nmi",
    "KMeans ARI": "kmeans_ari",
    "Silhouette label": "silhouette_label",
    "cLISI": "clisi",
    "iLISI": "ilisi",
    "KBET": "kbet",
    "Graph connectivity": "graph_connectivity",
    "PCR comparison": "pcr_comparison",
    "Silhouette batch": "silhouette_batch",
}

FROM_PAPER = (
    "Rows “paper:” are the paper's numbers, on its data, by its code, with batch size and learning ratio "
    "tuned by labels; they take no part in the comparison."
)


class PaperRows:
    """Rows of one of the paper's tables, each given out once.

    Parameters
    ----------
    reference
        Folder with the paper's tables; ``None`` for none.
    pattern
        Name of the file in it.
    name
        What a row of the file is called after "paper: ".

    Raises
    ------
    ValueError
        If there is no such file in the folder.
    """

    def __init__(self, reference: Path | None, pattern: str, name: Callable[[pd.Series], str]) -> None:
        files = [] if reference is None else sorted(reference.glob(pattern))
        if reference is not None and not files:
            raise ValueError(f"`reference` is {str(reference)!r}; expected a folder with a file {pattern}.")
        tables = [pd.read_csv(file, dtype=str) for file in files]
        self._table = pd.concat(tables) if tables else pd.DataFrame(columns=["dataset"])
        self._name = name
        self._left = list(dict.fromkeys(self._table["dataset"]))
        self.found = bool(tables)

    def rows(self, dataset: str, columns: Sequence[str | None], types: str | None = None) -> list[Row]:
        """Return the paper's rows for a dataset that goes by this name, however it is written."""
        same = [name for name in self._left if _plain(name) == _plain(dataset)]
        return [row for name in same for row in self._take(name, columns, types)]

    def remaining(self, columns: Sequence[str | None], types: str | None = None) -> list[Row]:
        """Return the rows of datasets that were not asked for."""
        return [row for name in list(self._left) for row in self._take(name, columns, types)]

    def _take(self, name: str, columns: Sequence[str | None], types: str | None) -> list[Row]:
        self._left.remove(name)
        rows = []
        for _, entry in self._table[self._table["dataset"] == name].iterrows():
            labels = [f"{name} (paper)", *([entry[types]] if types else []), f"paper: {self._name(entry)}"]
            empty = Cell(status=NOT_APPLICABLE)
            cells = [empty if column is None else paper_cell(entry[column]) for column in columns]
            rows.append(Row(tuple(labels), tuple(cells), from_paper=True))
        return rows


def _plain(name: str) -> str:
    return name.lower().replace("_", " ").replace("-", " ")
