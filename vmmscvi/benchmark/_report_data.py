"""What a report is made from: scores, sizes of the data, and what became of every cell of the benchmark."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from vmmscvi.benchmark import _schema
from vmmscvi.benchmark._config import check_names
from vmmscvi.benchmark._files import read_json
from vmmscvi.benchmark._scheduler import collect
from vmmscvi.benchmark._specs import slug

NOT_RUN = "not run"
"""Status of a cell of the configuration that has no record."""

UNFINISHED = "unfinished"
"""Status of a cell that is trained, but not scored."""


@dataclass(frozen=True)
class Run:
    """One cell of the benchmark."""

    dataset: str
    method: str
    seed: int
    status: str
    """``"done"``, ``"failed"``, ``"skipped"`` (cannot be applied), ``"unfinished"`` or ``"not run"``."""

    folder: Path
    error: str = ""


@dataclass(frozen=True)
class ReportData:
    """Everything that tables and figures are made from."""

    scores: pd.DataFrame
    """The tidy table of results; columns are :data:`vmmscvi.benchmark._schema.COLUMNS`."""

    runs: tuple[Run, ...]
    """All cells of the configuration, and those on disk besides; datasets and methods in order."""

    sizes: Mapping[str, Mapping[str, int]]
    """``n_obs``, ``n_vars``, ``n_batches`` and ``n_types`` by dataset."""

    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def datasets(self) -> list[str]:
        """Names of datasets, in order."""
        return list(dict.fromkeys(run.dataset for run in self.runs))

    def methods(self, dataset: str) -> list[str]:
        """Return the names of methods that are to be run on a dataset, in order."""
        return list(dict.fromkeys(run.method for run in self.runs if run.dataset == dataset))

    def only(self, datasets: Collection[str] | None, methods: Collection[str] | None) -> ReportData:
        """Return what there is of some datasets and methods, ``None`` for all, in the order as before.

        Raises
        ------
        ValueError
            If one is unknown.
        """
        check_names(datasets or (), self.datasets, "datasets")
        check_names(methods or (), list(dict.fromkeys(run.method for run in self.runs)), "methods")
        runs = tuple(
            run
            for run in self.runs
            if (not datasets or run.dataset in datasets) and (not methods or run.method in methods)
        )
        kept = {run.dataset for run in runs}
        sizes = {dataset: size for dataset, size in self.sizes.items() if dataset in kept}
        return replace(self, runs=runs, sizes=sizes)

    def of(self, dataset: str, method: str) -> list[Run]:
        """Return the cells of a dataset and method, seed by seed."""
        return [run for run in self.runs if (run.dataset, run.method) == (dataset, method)]

    def is_done(self, dataset: str, method: str) -> bool:
        """Whether any cell of a dataset and method has scores."""
        return any(run.status == _schema.DONE for run in self.of(dataset, method))

    def trials(self, dataset: str, method: str, clustering: str, measure: str) -> pd.Series:
        """Return the values of a measure by seed; NaN for seeds without."""
        table = self.scores
        chosen = table[
            (table[_schema.DATASET] == dataset)
            & (table[_schema.METHOD] == method)
            & (table[_schema.CLUSTERING] == clustering)
            & (table[_schema.MEASURE] == measure)
        ]
        values = chosen.drop_duplicates(_schema.SEED, keep="last").set_index(_schema.SEED)[_schema.VALUE]
        return values.reindex([run.seed for run in self.of(dataset, method)]).astype(float)


def read_results(results: Path) -> ReportData:
    """Read a folder of results.

    Parameters
    ----------
    results
        Folder that a run of the benchmark wrote.

    Raises
    ------
    ValueError
        If there is no such folder, or nothing of a benchmark in it.
    """
    if not (results / _schema.CONFIG_FILE).is_file() and not (results / _schema.CELLS_FOLDER).is_dir():
        raise ValueError(
            f"`results` is {str(results)!r}; expected a folder that a run of the benchmark wrote."
        )
    records = {
        file.parent: record
        for file in sorted((results / _schema.CELLS_FOLDER).glob(f"*/*/*/{_schema.RUN_FILE}"))
        if (record := read_json(file)) is not None
    }
    sizes: dict[str, dict[str, int]] = {}
    versions: dict[str, str] = {}
    for record in records.values():
        if record.get("status") in (_schema.TRAINED, _schema.DONE):
            keys = ("n_obs", "n_vars", "n_batches", "n_types")
            sizes.setdefault(record["dataset"], {key: int(record[key]) for key in keys})
            versions.update(record.get("versions", {}))
    return ReportData(collect(results), tuple(_runs(results, records)), sizes, versions)


def _runs(results: Path, records: Mapping[Path, Mapping[str, Any]]) -> list[Run]:
    """Cells that the configuration asks for, in its order, then others that are on disk."""
    expected = {(run.dataset, run.method, run.seed): run for run in _configured(results)}
    for folder, record in records.items():
        status = record.get("status")
        run = Run(
            dataset=record["dataset"],
            method=record["method"],
            seed=int(record["seed"]),
            status=UNFINISHED if status == _schema.TRAINED else str(status),
            folder=folder,
            error=str(record.get("error") or ""),
        )
        expected[run.dataset, run.method, run.seed] = run
    datasets, methods = (list(dict.fromkeys(key[i] for key in expected)) for i in (0, 1))
    return sorted(
        expected.values(), key=lambda run: (datasets.index(run.dataset), methods.index(run.method), run.seed)
    )


def _configured(results: Path) -> list[Run]:
    file = results / _schema.CONFIG_FILE
    if not file.is_file():
        return []
    # not by way of `load_config`: that wants the files of data, which need not be where the report is made
    config = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    return [
        Run(
            dataset["name"],
            method["name"],
            int(seed),
            NOT_RUN,
            results / _schema.CELLS_FOLDER / slug(dataset["name"]) / slug(method["name"]) / f"seed{seed}",
        )
        for dataset in config.get("datasets", [])
        for method in config.get("methods", [])
        for seed in config.get("seeds", [0])
    ]
