"""Performing cells in parallel, with a progress bar, and gathering their scores."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vmmscvi.benchmark import _files
from vmmscvi.benchmark._cells import Cell, Progress, finished_cells, progress_of
from vmmscvi.benchmark._pools import LocalPool, Pool, RayPool
from vmmscvi.benchmark._schema import COLUMNS, DONE, FAILED, RESULTS_FILE, SCORES_FILE, SKIPPED
from vmmscvi.benchmark._worker import Ending, Task

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)
SECONDS_BETWEEN_TABLES = 30.0

Follow = Callable[[Cell], Cell | None]
"""What comes after a finished cell, if anything."""


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


def run_cells(
    cells: Iterable[tuple[Cell, Progress]],
    out: Path,
    *,
    jobs: int | None,
    threads: int,
    ray: bool,
    show: bool,
    follow: Follow | None = None,
) -> BenchmarkRun:
    """Do what is left of cells, and write the table of results.

    Parameters
    ----------
    cells
        Cells and what is left to do of them.
    out
        Folder of results.
    jobs, threads, ray, show
        As in :func:`vmmscvi.benchmark.run`, where ``show`` is ``progress``.
    follow
        Called with every cell that is finished, also if it had been before; returns one to be done next.
    """
    schedule = _Schedule(follow or (lambda cell: None))
    for cell, left in cells:
        schedule.add(cell, left)
    pool: Pool | None = None
    try:
        if schedule.is_open:
            pool = RayPool(jobs, threads) if ray else LocalPool(jobs or 1, threads)
            _perform(schedule, pool, out, show)
    finally:
        if pool is not None:
            pool.close()
        schedule.summary.results = collect(out)
    return schedule.summary


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


class _Schedule:
    """What is to be done and what is under way. Scores come first, so that results are seen early."""

    def __init__(self, follow: Follow) -> None:
        self.summary = BenchmarkRun()
        self.running: list[Task] = []
        self.n_stages = 0
        self.n_stages_done = 0
        self._follow = follow
        self._to_train: deque[Cell] = deque()
        self._to_score: deque[Cell] = deque()

    @property
    def is_open(self) -> bool:
        return bool(self._to_train or self._to_score or self.running)

    def add(self, cell: Cell, left: Progress) -> None:
        self.n_stages += 2 if left.train else int(left.score)
        if left.train:
            self._to_train.append(cell)
        elif left.score:
            self._to_score.append(cell)
        else:
            self.summary.n_finished_before += 1
            self._add_next(cell)

    def start(self) -> Task | None:
        if not (self._to_train or self._to_score):
            return None
        in_line = self._to_score or self._to_train
        task = Task("score" if in_line is self._to_score else "train", in_line.popleft())
        self.running.append(task)
        return task

    def end(self, task: Task, ending: Ending) -> None:
        self.running.remove(task)
        self.summary.count(task, ending)
        is_done = ending.status == DONE
        # a cell that is not trained is not scored either
        self.n_stages_done += 2 if task.stage == "train" and not is_done else 1
        if is_done and task.stage == "train":
            self._to_score.append(task.cell)
        elif is_done:
            self._add_next(task.cell)

    def _add_next(self, cell: Cell) -> None:
        following = self._follow(cell)
        if following is not None:
            self.add(following, progress_of(following))


def _perform(schedule: _Schedule, pool: Pool, out: Path, show: bool) -> None:
    """Keep the pool busy until nothing is left."""
    last_table = time.monotonic()
    with _progress_bar(show) as bar:
        bar_task = bar.add_task("starting", total=None)
        while schedule.is_open:
            while len(schedule.running) < pool.capacity and (task := schedule.start()) is not None:
                pool.submit(task)
            bar.update(
                bar_task,
                description=_describe(schedule.running),
                completed=schedule.n_stages_done,
                total=schedule.n_stages,
            )
            for task, ending in pool.wait():
                schedule.end(task, ending)
            if time.monotonic() - last_table > SECONDS_BETWEEN_TABLES:
                collect(out)
                last_table = time.monotonic()
        bar.update(bar_task, description="done", completed=schedule.n_stages_done, total=schedule.n_stages)


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
