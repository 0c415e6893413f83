"""Running a benchmark: everything of a configuration that has not been done."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from vmmscvi.benchmark import _files
from vmmscvi.benchmark._cells import cells_of, progress_of
from vmmscvi.benchmark._checks import check_config, check_unchanged
from vmmscvi.benchmark._config import dump_config, load_config, select
from vmmscvi.benchmark._scheduler import BenchmarkRun, run_cells
from vmmscvi.benchmark._schema import CONFIG_FILE
from vmmscvi.benchmark._specs import BenchmarkConfig, check_positive


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
    return run_cells(found, out, jobs=jobs, threads=chosen.threads, ray=ray, show=progress)
