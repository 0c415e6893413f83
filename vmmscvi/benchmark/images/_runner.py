"""All cells of the image benchmark, those that are there already left out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vmmscvi.benchmark.images._cell import read_record, run_cell
from vmmscvi.benchmark.images._data import ImageData, load_images
from vmmscvi.benchmark.images._settings import CellSettings
from vmmscvi.train import NonFiniteTrainingError

logger = logging.getLogger(__name__)


@dataclass
class RunSummary:
    """What a run has done.

    Attributes
    ----------
    n_run, n_kept, n_failed
        Cells that were run, that were there already, and that failed.
    """

    n_run: int = 0
    n_kept: int = 0
    n_failed: int = 0


def run_cells(
    cells: Iterable[CellSettings],
    out: Path,
    data_folder: Path | None = None,
    accelerator: str = "auto",
    verbose: bool = False,
    overwrite: bool = False,
    report: Callable[[str], None] = logger.info,
) -> RunSummary:
    """Run cells one after another; those that are complete are kept.

    Parameters
    ----------
    cells
        What to run.
    out
        Folder of the benchmark.
    data_folder
        Where the files of MNIST and Fashion-MNIST are.
    accelerator
        Where to train: ``"auto"``, ``"cpu"``, ``"gpu"`` or ``"mps"``.
    verbose
        Whether to show progress bars.
    overwrite
        Whether to run complete cells again.
    report
        Called with a line for each cell; the log by default.

    Raises
    ------
    ValueError
        If data are missing, a setting is out of range, or a complete cell was run with other settings.
    """
    cells = list(cells)
    for cell in cells:
        _require_same_settings(cell, out, overwrite)
    summary = RunSummary()
    loaded: dict[tuple[Any, ...], ImageData] = {}
    for number, cell in enumerate(cells, start=1):
        folder = cell.folder(out)
        if read_record(folder) is not None and not overwrite:
            summary.n_kept += 1
            continue
        key = (cell.dataset, cell.n_images, cell.n_test)
        if key not in loaded:
            loaded = {key: load_images(cell.dataset, data_folder, cell.n_images, cell.n_test)}
        report(f"cell {number} of {len(cells)}: {folder.relative_to(out)}")
        try:
            run_cell(cell, loaded[key], out, accelerator, verbose)
            summary.n_run += 1
        except NonFiniteTrainingError as error:
            report(f"{folder.relative_to(out)} has failed: {error}")
            summary.n_failed += 1
    return summary


def _require_same_settings(cell: CellSettings, out: Path, overwrite: bool) -> None:
    record = read_record(cell.folder(out))
    if record is None or overwrite:
        return
    wanted, found = cell.as_dict(), record["settings"]
    different = sorted(name for name in wanted | found if wanted.get(name) != found.get(name))
    if different:
        changes = ", ".join(f"{name} {found.get(name)} -> {wanted.get(name)}" for name in different)
        raise ValueError(
            f"`out` has {cell.folder(out).relative_to(out)} with other settings ({changes}): name another "
            "folder, or overwrite."
        )
