"""Preserve the number of threads that training uses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def training_threads_kept() -> Iterator[None]:
    """Restore PyTorch's number of threads when the context ends.

    Numba starts one thread for each core. Through the shared OpenMP library this also raises PyTorch's number
    of threads, regardless of ``OMP_NUM_THREADS``. On a machine whose cores are shared with other work,
    training in small steps is then up to fifty times slower.
    """
    n_threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
