"""What a worker process does. Nothing heavy is imported here, so that threads can be limited before it is."""

from __future__ import annotations

import logging
import os
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Literal

from vmmscvi.benchmark._cells import Cell
from vmmscvi.benchmark._schema import DONE, FAILED, SKIPPED

Stage = Literal["train", "score"]

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)
CHATTY = ("harmonypy", "lightning", "lightning.fabric", "lightning.pytorch", "numba", "scanpy", "scvi", "jax")
MAX_ERROR_LENGTH = 2000


@dataclass(frozen=True)
class Task:
    """A stage of a cell."""

    stage: Stage
    cell: Cell


@dataclass(frozen=True)
class Ending:
    """How a task ended: ``"done"``, ``"failed"`` or ``"skipped"``, and why."""

    status: str
    reason: str = ""


def thread_environment(threads: int) -> dict[str, str]:
    """Environment variables that limit the threads of numerical libraries, and keep JAX on the CPU."""
    return {**dict.fromkeys(THREAD_VARIABLES, str(threads)), "JAX_PLATFORMS": "cpu"}


@contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables for a while, for processes that are started meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def serve(connection: Connection) -> None:
    """Perform tasks from a connection until it is closed or sends ``None``."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one decides
    while True:
        try:
            task: Task | None = connection.recv()
        except EOFError:
            return
        if task is None:
            return
        connection.send(perform(task))


def perform(task: Task) -> Ending:
    """Perform a task, quietly. An error is recorded for the cell and returned."""
    from vmmscvi.benchmark._methods import NotApplicableError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            _perform(task)
        except NotApplicableError as error:
            task.cell.record_failure(task.stage, str(error), SKIPPED)
            return Ending(SKIPPED, str(error))
        except Exception as error:  # whatever a method raises is a result of the benchmark
            message = f"{type(error).__name__}: {error}"[:MAX_ERROR_LENGTH]
            task.cell.record_failure(task.stage, message)
            return Ending(FAILED, message)
    return Ending(DONE)


def _perform(task: Task) -> None:
    if task.stage == "train":
        import torch

        from vmmscvi.benchmark._methods import fitter
        from vmmscvi.benchmark._train_cell import train_cell

        fitter(task.cell.method.kind)
        _silence()
        torch.set_num_threads(task.cell.threads)  # other libraries may have raised it
        train_cell(task.cell)
    else:
        from vmmscvi.benchmark._score_cell import score_cell

        _silence()
        score_cell(task.cell)


def _silence() -> None:
    """Quieten libraries; after they have been imported, as some set the levels of their loggers then."""
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
