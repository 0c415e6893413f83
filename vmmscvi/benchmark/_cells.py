"""One cell of a benchmark: a dataset, a method and a seed; its settings, its folder, and how far it got."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from vmmscvi.benchmark._files import read_json, write_json
from vmmscvi.benchmark._schema import (
    CELLS_FOLDER,
    DONE,
    EMBEDDING_FILE,
    FAILED,
    RUN_FILE,
    SCORES_FILE,
    SKIPPED,
    TRAINED,
)
from vmmscvi.benchmark._specs import BenchmarkConfig, DatasetSpec, MethodSpec, changed_fields, slug


@dataclass(frozen=True)
class Cell:
    """What is trained and scored as one: it can be sent to another process.

    Parameters
    ----------
    dataset, method, seed
        What is run.
    scoring
        Settings of the scores, see :func:`scoring_settings`.
    threads
        Threads of the process.
    folder
        Where its files go.
    """

    dataset: DatasetSpec
    method: MethodSpec
    seed: int
    scoring: Mapping[str, Any]
    threads: int
    folder: Path

    @property
    def title(self) -> str:
        """Name in messages."""
        return f"{self.dataset.name}, {self.method.name}, seed {self.seed}"

    def settings(self) -> dict[str, Any]:
        """Everything that the trained model depends on, for comparison with what is on disk."""
        dataset = changed_fields(self.dataset)
        dataset.pop("train", None)  # the method has it
        path = dataset.pop("path", None)
        if path is not None:
            dataset["file_sha256"] = file_digest(path)
        return {"dataset": _plain(dataset), "method": _plain(changed_fields(self.method)), "seed": self.seed}

    def record(self) -> dict[str, Any]:
        """Return what ``run.json`` says, empty if there is none."""
        return read_json(self.folder / RUN_FILE) or {}

    def update_record(self, **changes: Any) -> None:
        """Add entries to ``run.json``, or replace them."""
        write_json(self.folder / RUN_FILE, {**self.record(), **changes})

    def record_failure(self, stage: str, error: str, status: str = FAILED) -> None:
        """Note that a stage of the cell failed; the next run tries it again, unless it was skipped."""
        self.update_record(
            dataset=self.dataset.name,
            method=self.method.name,
            kind=self.method.kind,
            seed=self.seed,
            settings=self.settings(),
            status=status,
            failed_stage=stage,
            error=error,
        )


@dataclass(frozen=True)
class Progress:
    """What is left to do of a cell, and which of its settings differ from those of its results."""

    train: bool
    score: bool
    changed: tuple[str, ...] = ()


def cells_of(config: BenchmarkConfig, out: Path) -> Iterator[Cell]:
    """Yield all cells, those of a dataset next to each other, so that it is read once."""
    for dataset in config.datasets:
        for seed in config.seeds:
            for method in config.methods:
                folder = out / CELLS_FOLDER / slug(dataset.name) / slug(method.name) / f"seed{seed}"
                trained_as = method.on(dataset)
                yield Cell(dataset, trained_as, seed, scoring_settings(config), config.threads, folder)


def scoring_settings(config: BenchmarkConfig) -> dict[str, Any]:
    """Return the settings that scores depend on."""
    return {
        "clusterings": sorted(config.clusterings),
        "scib": config.scib,
        "scib_max_cells": config.scib_max_cells,
    }


def progress_of(cell: Cell) -> Progress:
    """Compare a cell with its results on disk.

    A stage that failed is run again. A cell with other settings of data or method is reported, for the caller
    to refuse or to train again. Other settings of the scores only mean that it is scored again.
    """
    record = cell.record()
    status = record.get("status")
    if status == SKIPPED and record.get("settings") == cell.settings():
        return Progress(train=False, score=False)
    trained = status in (TRAINED, DONE) or (status == FAILED and record.get("failed_stage") == "score")
    if not trained or not (cell.folder / EMBEDDING_FILE).is_file():
        return Progress(train=True, score=True)
    changed = tuple(_differences(record.get("settings", {}), cell.settings()))
    scored = status == DONE and (cell.folder / SCORES_FILE).is_file()
    return Progress(
        train=bool(changed),
        score=bool(changed) or not scored or record.get("scoring") != cell.scoring,
        changed=changed,
    )


def finished_cells(out: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield folder and record of every finished cell under a folder of results, sorted by their paths."""
    for file in sorted((out / CELLS_FOLDER).glob(f"*/*/*/{RUN_FILE}")):
        record = read_json(file)
        if record is not None and record.get("status") == DONE and (file.parent / SCORES_FILE).is_file():
            yield file.parent, record


def file_digest(path: Path) -> str:
    """SHA-256 of a file, computed once for each version of it."""
    stat = path.stat()
    return _digest(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=128)
def _digest(path: Path, modified: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _differences(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """Yield where two settings differ, as ``method.train.max_epochs: 60 -> 100``."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            yield from _differences(old.get(key), new.get(key), f"{where}.{key}" if where else str(key))
    elif old != new:
        yield f"{where}: {old!r:.40} -> {new!r:.40}"


def _plain(value: Any) -> Any:
    """Return settings as they are after a detour by way of JSON."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value
