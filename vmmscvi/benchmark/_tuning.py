"""The paper's choice of batch size and learning rate of the prior. It uses labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vmmscvi.benchmark import _files, _schema
from vmmscvi.benchmark._cells import Cell, cells_of, progress_of
from vmmscvi.benchmark._checks import check_config, check_unchanged
from vmmscvi.benchmark._config import dump_config, load_config, select
from vmmscvi.benchmark._scheduler import run_cells
from vmmscvi.benchmark._specs import BenchmarkConfig, MethodSpec, check_distinct, check_positive
from vmmscvi.benchmark._tuning_table import tuning_figure, tuning_table

if TYPE_CHECKING:
    import pandas as pd

BATCH_SIZES = (128, 256, 512)
RATIOS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
TUNED = ("batch_size", "prior_lr_ratio")
TABLE_FILE = "tuning.csv"
FIGURE_FILES = ("tuning.png", "tuning.pdf")


@dataclass(frozen=True)
class TuningRun:
    """What tuning found.

    Parameters
    ----------
    table
        See :func:`vmmscvi.benchmark._tuning_table.tuning_table`.
    files
        What was written.
    failed
        Errors by cell.
    """

    table: pd.DataFrame
    files: tuple[Path, ...]
    failed: Mapping[str, str]


def tune(
    config: Path | str | Mapping[str, Any] | BenchmarkConfig | None,
    out: Path | str,
    *,
    method: str | None = None,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    ratios: Sequence[float] = RATIOS,
    data: Path | str | None = None,
    datasets: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    jobs: int | None = None,
    threads: int | None = None,
    ray: bool = False,
    recompute: bool = False,
    progress: bool = True,
) -> TuningRun:
    """Choose batch size and learning rate of the prior as the paper does: **with labels**.

    For each batch size the ratio of the prior's learning rate to the networks' goes up from its smallest
    value, which lowers the number of clusters; the first run that uses fewer clusters than there are types is
    the last one of its batch size and seed. Chosen is the best mean scIB total (bio-conservation where there
    is a single batch) over seeds among settings whose mean number of clusters is at least that of the types.
    What is chosen so must not be called unsupervised: a user has no labels.

    Parameters
    ----------
    config, out, data, datasets, seeds, jobs, threads, ray, recompute, progress
        As in :func:`vmmscvi.benchmark.run`. Finished runs are not computed again.
    method
        Name of the method in the configuration, of kind ``"scvi_vmm"``; by default the first one. It starts
        from cells unless its ``train`` says otherwise.
    batch_sizes, ratios
        What is tried. The paper leaves out ratios below 1 where the networks' learning rate is below 1e-3.

    Returns
    -------
    The table, which is in ``out/tuning.csv`` as well, with figures of clusters and score against the batch
    size beside it.

    Raises
    ------
    ValueError
        As :func:`vmmscvi.benchmark.run`; or if the method is no mixture, or a value is not positive.
    """
    check_positive(jobs, "jobs")
    check_positive(threads, "threads")
    _check_grid(batch_sizes, ratios)
    asked = select(load_config(config, data), datasets, None, seeds, threads)
    grid = tuning_config(asked, _method(asked, method), batch_sizes, ratios)
    check_config(grid)
    out = Path(out).resolve()
    cells = {_key(cell): cell for cell in cells_of(grid, out)}
    if not recompute:
        check_unchanged([(cell, progress_of(cell)) for cell in cells.values()])
    out.mkdir(parents=True, exist_ok=True)
    _files.write_bytes(out / _schema.CONFIG_FILE, dump_config(grid).encode())
    ordered = sorted(float(ratio) for ratio in ratios)

    def next_ratio(cell: Cell) -> Cell | None:
        dataset, seed, batch_size, ratio = _key(cell)
        later = ordered[ordered.index(ratio) + 1 :]
        if not later or uses_fewer_clusters_than_types(cell):
            return None
        return cells[dataset, seed, batch_size, later[0]]

    first = [cell for key, cell in cells.items() if key[-1] == ordered[0]]
    done = run_cells(
        [(cell, progress_of(cell)) for cell in first],
        out,
        jobs=jobs,
        threads=grid.threads,
        ray=ray,
        show=progress,
        follow=next_ratio,
    )
    table = tuning_table(cell for cell in cells.values() if not _is_left(cell))
    _files.write_table(out / TABLE_FILE, table)
    figures = tuning_figure(table, [out / name for name in FIGURE_FILES])
    return TuningRun(table, (out / TABLE_FILE, *figures), done.failed)


def tuning_config(
    config: BenchmarkConfig, method: MethodSpec, batch_sizes: Sequence[int], ratios: Sequence[float]
) -> BenchmarkConfig:
    """Return the configuration with one method for each batch size and ratio, scored as tuning needs it."""
    methods = tuple(
        replace(
            method,
            name=f"{method.name}, batch {batch_size}, ratio {ratio:g}",
            train={
                "start": "cells",
                **method.train,
                "batch_size": batch_size,
                "prior_lr_ratio": float(ratio),
            },
        )
        for batch_size in batch_sizes
        for ratio in ratios
    )
    datasets = tuple(
        replace(dataset, train={key: value for key, value in dataset.train.items() if key not in TUNED})
        for dataset in config.datasets
    )
    return replace(config, datasets=datasets, methods=methods, clusterings=(_schema.OWN,), scib=True)


def uses_fewer_clusters_than_types(cell: Cell) -> bool:
    """Whether a finished cell has fewer clusters than its data have types, where the paper stops."""
    import pandas as pd

    scores = pd.read_csv(cell.folder / _schema.SCORES_FILE, keep_default_na=False)
    is_number = (scores[_schema.CLUSTERING] == _schema.OWN) & (scores[_schema.MEASURE] == _schema.N_CLUSTERS)
    return bool(float(scores.loc[is_number, _schema.VALUE].iloc[0]) < cell.record()["n_types"])


def _is_left(cell: Cell) -> bool:
    left = progress_of(cell)
    return left.train or left.score


def _key(cell: Cell) -> tuple[str, int, int, float]:
    train = cell.method.train
    return cell.dataset.name, cell.seed, int(train["batch_size"]), float(train["prior_lr_ratio"])


def _method(config: BenchmarkConfig, name: str | None) -> MethodSpec:
    known = {
        method.name: method
        for method in config.methods
        if method.kind == "scvi_vmm" and method.model.get("prior", "vmm") in ("vmm", "gmm")
    }
    if not known:
        raise ValueError(
            "The configuration has no method of kind scvi_vmm with the prior vmm or gmm to tune."
        )
    if name is not None and name not in known:
        raise ValueError(f"method is {name!r}; expected a mixture of kind scvi_vmm: one of {list(known)}.")
    return known[name] if name is not None else next(iter(known.values()))


def _check_grid(batch_sizes: Sequence[int], ratios: Sequence[float]) -> None:
    for name, values in (("batch_sizes", batch_sizes), ("ratios", ratios)):
        if not values or not all(value > 0 for value in values):
            raise ValueError(f"{name} must be positive numbers; found {list(values)}.")
        check_distinct(values, name)
