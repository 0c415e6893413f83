"""Minibatches of an array that is held in memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, SequentialSampler

from vmmscvi.vae._module import X_KEY

Indices = NDArray[np.intp]
ROWS_AT_A_TIME = 1024


class _Rows(Dataset[dict[str, Tensor]]):
    """Rows of an array, indexed by lists of rows."""

    def __init__(self, x: Tensor, indices: Indices) -> None:
        self.x = x
        self.indices = torch.as_tensor(indices)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, rows: list[int]) -> dict[str, Tensor]:
        return {X_KEY: self.x[self.indices[rows]]}


class ArrayDataModule(LightningDataModule):
    """Training and validation rows of an array.

    Parameters
    ----------
    x
        Observations, shape ``(n, n_features)``, float32.
    train_indices, validation_indices
        Positions of training and validation rows.
    batch_size
        Rows in a minibatch.
    seed
        Seed of samples of training rows.
    """

    def __init__(
        self,
        x: Tensor,
        train_indices: Indices,
        validation_indices: Indices,
        batch_size: int,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.x = x
        self.train_indices = train_indices
        self.validation_indices = validation_indices
        self.batch_size = batch_size
        self.seed = seed

    def sample_dataloader(self, n_rows: int) -> list[dict[str, Tensor]]:
        """Return minibatches of random training rows: ``n_rows`` of them, or all if there are fewer."""
        rows = self.x[draw_rows(self.train_indices, n_rows, self.seed)]
        return [{X_KEY: chunk} for chunk in in_chunks(rows)]

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """Return minibatches of training rows, shuffled in every epoch."""
        return self._loader(self.train_indices, shuffle=True)

    def val_dataloader(self) -> DataLoader[dict[str, Tensor]] | list[DataLoader[dict[str, Tensor]]]:
        """Return minibatches of validation rows; an empty list if there are none."""
        return self._loader(self.validation_indices, shuffle=False) if len(self.validation_indices) else []

    def _loader(self, indices: Indices, shuffle: bool) -> DataLoader[dict[str, Tensor]]:
        rows = _Rows(self.x, indices)
        order = RandomSampler(rows) if shuffle else SequentialSampler(rows)
        # index whole minibatches at once instead of gathering row by row
        sampler = BatchSampler(order, self.batch_size, drop_last=False)
        return DataLoader(rows, sampler=sampler, batch_size=None)


def as_tensor(array: NDArray[np.float32]) -> Tensor:
    """Return an array as a tensor, sharing memory if it is contiguous."""
    return torch.from_numpy(np.ascontiguousarray(array))


def in_chunks(rows: Tensor, n_rows: int = ROWS_AT_A_TIME) -> Iterator[Tensor]:
    """Yield chunks of ``n_rows`` rows."""
    for start in range(0, len(rows), n_rows):
        yield rows[start : start + n_rows]


def split_rows(n_rows: int, validation_fraction: float, seed: int) -> tuple[Indices, Indices]:
    """Divide rows at random into training and validation.

    Parameters
    ----------
    n_rows
        Number of rows.
    validation_fraction
        Share of rows for validation; their number is rounded up.
    seed
        Seed of the split.

    Returns
    -------
    tuple of numpy.ndarray
        Sorted indices of training rows and of validation rows.
    """
    order = np.random.default_rng(seed).permutation(n_rows)
    n_validation = int(np.ceil(validation_fraction * n_rows))
    return np.sort(order[n_validation:]), np.sort(order[:n_validation])


def draw_rows(indices: Indices, n_rows: int, seed: int) -> Indices:
    """Draw ``n_rows`` rows without replacement, or return all if there are fewer."""
    if len(indices) <= n_rows:
        return indices
    return np.random.default_rng(seed).choice(indices, n_rows, replace=False)
