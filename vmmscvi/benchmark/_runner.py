"""Running a benchmark: what is left to do, in parallel, with a progress bar."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vmmscvi.benchmark import _files
from vmmscvi.benchmark._cells import Cell, Progress, cells_of, finished_cells, progress_of
from vmmscvi.benchmark._checks import check_config, check_unchanged
from vmmscvi.benchmark._config import dump_config, load_config, select
from vmmscvi.benchmark._pools import LocalPool, Pool, RayPool
from vmmscvi.benchmark._schema import COLUMNS, CONFIG_FILE, DONE, FAILED, RESULTS_FILE, SCORES_FILE, SKIPPED
from vmmscvi.benchmark._specs import BenchmarkConfig, check_positive
from vmmscvi.benchmark._worker import Ending, Task

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)
SECONDS_BETWEEN_TABLES = 30.0


@dataclass
class BenchmarkRun:
    """What a run did.

    Parameters
    ----------
    results
        The table of results: of all finished cells in the folder, also of earlier runs.
    n_trained, n_scored, n_finished_before
        Cells trained, cells scored, and cells with nothing left to do.
    failed
        Errors by cell. Failed cells are tried again by the next run.
    skipped
        Reasons by cell: methods that cannot be applied to the data.
    """

    results: pd.DataFrame | None = None
    n_trained: int = 0
    n_scored: int = 0
    n_finished_before: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def count(self, task: Task, ending: Ending) -> None:
        """Count a task that has ended."""
        title = task.cell.title
        if ending.status == FAILED:
            self.failed[title] = f"{task.stage}: {ending.reason}"
            logger.warning("%s failed to %s: %s", title, task.stage, ending.reason)
        elif ending.status == SKIPPED:
            self.skipped[title] = ending.reason
            logger.info("%s: %s", title, ending.reason)
        elif task.stage == "train":
            self.n_trained += 1
        else:
            self.n_scored += 1


def run(
    config: Path | str | Mapping[str, Any] | BenchmarkConfig | None,
    out: Path | str,
    *,
    data: Path | str | None = None,
    datasets: Collection[str] | None = None,
    methods: Collection[str] | None = None,
    seeds: Collection[int] | None = None,
    jobs: int | None = None,
    threads: int | None = None,
    ray: bool = False,
    recompute: bool = False,
    progress: bool = True,
) -> BenchmarkRun:
    """Run datasets x methods x seeds, and score them.

    A run that was stopped goes on where it stopped: finished cells are not computed again. Training and
    scoring run in processes of their own, so a script that calls this needs ``if __name__ == "__main__":``.

    Parameters
    ----------
    config
        A YAML file, its content, or ``None`` for a small default; see :func:`load_config`.
    out
        Folder of results. Runs with other datasets, methods or seeds can share it.
    data
        Folder that paths of data sets are relative to; by default that of the YAML file.
    datasets, methods, seeds
        What to run of the configuration; everything by default. Seeds may be others than there.
    jobs
        Processes at a time; 1 by default, with Ray as many as there are CPUs for.
    threads
        Threads of each process; by default as the configuration says.
    ray
        Whether Ray runs the processes, here or on a cluster whose machines share the folders.
    recompute
        Whether to train cells again whose results were made with other settings; by default that is an
        error.
    progress
        Whether to show a progress bar.

    Returns
    -------
    What was done, with the table of results, which is in ``out/results.csv`` as well.

    Raises
    ------
    ValueError
        If the configuration cannot be run, or results of other settings are in the folder.
    """
    check_positive(jobs, "jobs")
    check_positive(threads, "threads")
    asked = load_config(config, data)
    chosen = select(asked, datasets, methods, seeds, threads)
    check_config(chosen)
    out = Path(out).resolve()
    found = [(cell, progress_of(cell)) for cell in cells_of(chosen, out)]
    if not recompute:
        check_unchanged(found)
    out.mkdir(parents=True, exist_ok=True)
    _files.write_bytes(out / CONFIG_FILE, dump_config(asked).encode())
    summary = BenchmarkRun(n_finished_before=sum(not (left.train or left.score) for _, left in found))
    pool: Pool | None = None
    try:
        if summary.n_finished_before < len(found):
            pool = RayPool(jobs, chosen.threads) if ray else LocalPool(jobs or 1, chosen.threads)
            _perform(found, pool, out, summary, progress)
    finally:
        if pool is not None:
            pool.close()
        summary.results = collect(out)
    return summary


def collect(out: Path | str) -> pd.DataFrame:
    """Gather the scores of all finished cells into ``results.csv``, and return them.

    Parameters
    ----------
    out
        Folder of results.

    Returns
    -------
    A row for each dataset, method, seed, clustering and measure, with columns ``dataset``, ``method``,
    ``seed``, ``clustering`` (empty for measures of the embedding and of the run), ``measure``, ``value`` and
    ``uses_labels``.
    """
    import pandas as pd

    out = Path(out)
    tables = [
        pd.read_csv(folder / SCORES_FILE, keep_default_na=False, na_values={"value": [""]})
        for folder, _ in finished_cells(out)
    ]
    results = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(COLUMNS))
    _files.write_table(out / RESULTS_FILE, results)
    return results


def _perform(
    found: list[tuple[Cell, Progress]], pool: Pool, out: Path, summary: BenchmarkRun, show: bool
) -> None:
    """Keep the pool busy until nothing is left. Scores come first, so that results are seen early."""
    to_train = deque(cell for cell, left in found if left.train)
    to_score = deque(cell for cell, left in found if left.score and not left.train)
    running: list[Task] = []
    last_table = time.monotonic()
    with _progress_bar(show) as bar:
        bar_task = bar.add_task("starting", total=2 * len(to_train) + len(to_score))
        while to_train or to_score or running:
            while len(running) < pool.capacity and (to_train or to_score):
                task = Task("score", to_score.popleft()) if to_score else Task("train", to_train.popleft())
                pool.submit(task)
                running.append(task)
            bar.update(bar_task, description=_describe(running))
            for task, ending in pool.wait():
                running.remove(task)
                summary.count(task, ending)
                if task.stage == "train" and ending.status == DONE:
                    to_score.append(task.cell)
                # a cell that is not trained is not scored either
                bar.advance(bar_task, 2 if task.stage == "train" and ending.status != DONE else 1)
            if time.monotonic() - last_table > SECONDS_BETWEEN_TABLES:
                collect(out)
                last_table = time.monotonic()


def _describe(running: list[Task]) -> str:
    """Say what is under way; the first task stands for all."""
    task = running[0]
    others = f" and {len(running) - 1} more" if len(running) > 1 else ""
    return f"{task.stage} {task.cell.title}{others}".replace("[", r"\[")


def _progress_bar(show: bool) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
        console=Console(stderr=True),
        disable=not show,
    )
