"""Keep the number of threads that training uses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def training_threads_kept() -> Iterator[None]:
    """Restore PyTorch's number of threads when the block ends.

    Numba starts one thread for each core, and by way of the OpenMP library that both use raises PyTorch's
    number as well, whatever ``OMP_NUM_THREADS`` says. Training in small steps is then up to fifty times
    slower on a machine whose cores are shared with other work.
    """
    n_threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
