"""Counts that are read sparsely, and whether they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from anndata import AnnData
from torch.nn.functional import embedding_bag
from torch.overrides import TorchFunctionMode

from vmmscvi._threads import training_threads_kept


@pytest.fixture(scope="session")
def sparse_counts(counts: AnnData) -> AnnData:
    """The shared counts, so shallow that three in four are zero; no cell is empty."""
    adata = counts.copy()
    adata.X.data = np.random.default_rng(0).binomial(adata.X.data.astype(int), 0.1).astype(np.float32)
    adata.X.eliminate_zeros()
    assert adata.X.nnz < 0.3 * np.prod(adata.shape) and (adata.X.sum(axis=1) > 0).all()
    return adata


class SparseProducts(TorchFunctionMode):
    """Counts the products of sparse counts with the weight of an encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.n_found = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.n_found += func is embedding_bag
        return func(*args, **(kwargs or {}))


@pytest.fixture
def readings() -> Iterator[SparseProducts]:
    """The number of sparse products while the test runs."""
    with SparseProducts() as products:
        yield products


@pytest.fixture
def use_threads() -> Iterator[Callable[[int], None]]:
    """Set the number of threads of PyTorch until the test ends."""
    with training_threads_kept():
        yield torch.set_num_threads
