"""Where tasks are performed: in local processes, or by Ray."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

from vmmscvi.benchmark._schema import FAILED
from vmmscvi.benchmark._worker import Ending, Stage, Task, environment, perform, serve, thread_environment

Outcome = tuple[Task, Ending]
"""A task that has ended, and how."""


class Pool(Protocol):
    """Performs some tasks at a time."""

    capacity: int
    """How many."""

    def submit(self, task: Task) -> None:
        """Start a task; there must be capacity for it."""

    def wait(self) -> Sequence[Outcome]:
        """Wait until a task ends; return all that have."""

    def close(self) -> None:
        """End everything, also tasks under way."""


@dataclass
class _Worker:
    stage: Stage
    process: BaseProcess
    connection: Connection
    task: Task | None = field(default=None)


class LocalPool:
    """Processes on this machine; some only train, the others only score.

    Scoring runs numba, which raises PyTorch's number of threads within a process. Processes are kept for the
    next task, as importing libraries takes seconds. One that dies (for lack of memory, say) costs its own
    task alone.

    Parameters
    ----------
    jobs
        Tasks at a time.
    threads
        Threads of each process.
    """

    def __init__(self, jobs: int, threads: int) -> None:
        self.capacity = jobs
        self._threads = threads
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[_Worker] = []

    def submit(self, task: Task) -> None:
        """Give a task to an idle process of its stage, or to a new one."""
        idle = [worker for worker in self._workers if worker.stage == task.stage and worker.task is None]
        worker = idle[0] if idle else self._start(task.stage)
        worker.task = task
        worker.connection.send(task)

    def wait(self) -> list[Outcome]:
        """Wait until a task ends, well or badly."""
        busy = {worker.connection: worker for worker in self._workers if worker.task is not None}
        return [self._finish(busy[connection]) for connection in wait(list(busy)) if connection in busy]

    def close(self) -> None:
        """Terminate all processes; what they write is there as a whole or not at all."""
        for worker in self._workers:
            worker.connection.close()
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join()
        self._workers.clear()

    def _start(self, stage: Stage) -> _Worker:
        here, there = self._context.Pipe()
        process = self._context.Process(target=serve, args=(there,), name=f"vmmscvi-{stage}", daemon=True)
        with environment(thread_environment(self._threads)):
            process.start()
        there.close()
        worker = _Worker(stage, process, here)
        self._workers.append(worker)
        return worker

    def _finish(self, worker: _Worker) -> Outcome:
        task = worker.task
        assert task is not None
        worker.task = None
        try:
            ending: Ending = worker.connection.recv()
        except (EOFError, ConnectionError):  # which of them depends on when it ended
            worker.process.join()
            worker.connection.close()
            self._workers.remove(worker)
            error = f"the process ended with exit code {worker.process.exitcode}; was there enough memory?"
            task.cell.record_failure(task.stage, error)
            ending = Ending(FAILED, error)
        return task, ending


class RayPool:
    """Tasks of Ray, on one machine or a cluster whose machines share the folders of data and results.

    Parameters
    ----------
    jobs
        Tasks at a time; by default as many as the cluster has CPUs for.
    threads
        Threads, and CPUs, of each task.
    address
        As in :func:`ray.init`; by default a cluster that is there (``RAY_ADDRESS``), or a new one here.

    Raises
    ------
    ValueError
        If Ray is not installed.
    """

    def __init__(self, jobs: int | None, threads: int, address: str | None = None) -> None:
        if find_spec("ray") is None:
            raise ValueError("Ray is not installed: `pip install ray`, or run without it (jobs, --jobs).")
        ray: Any = import_module("ray")
        self._ray = ray
        self._own = not ray.is_initialized()
        if self._own:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        n_cpus = int(ray.cluster_resources().get("CPU", 1))
        self.capacity = jobs or max(1, n_cpus // threads)
        # Processes are shared only by tasks of the same environment: the name of the stage keeps them apart.
        self._remote = {
            stage: ray.remote(perform).options(
                num_cpus=threads,
                max_retries=0,
                runtime_env={"env_vars": {**thread_environment(threads), "VMMSCVI_STAGE": stage}},
            )
            for stage in ("train", "score")
        }
        self._running: dict[Any, Task] = {}

    def submit(self, task: Task) -> None:
        """Hand a task to Ray."""
        self._running[self._remote[task.stage].remote(task)] = task

    def wait(self) -> list[Outcome]:
        """Wait until a task ends."""
        done, _ = self._ray.wait(list(self._running), num_returns=1)
        return [self._finish(reference) for reference in done]

    def close(self) -> None:
        """Cancel what is under way, and end a Ray that was started here."""
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._running.clear()
        if self._own:
            self._ray.shutdown()

    def _finish(self, reference: Any) -> Outcome:
        task = self._running.pop(reference)
        try:
            ending: Ending = self._ray.get(reference)
        except self._ray.exceptions.RayError as failure:
            error = f"Ray: {failure}".splitlines()[0]
            task.cell.record_failure(task.stage, error)
            ending = Ending(FAILED, error)
        return task, ending
