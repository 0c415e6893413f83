"""Training from counts on disk, with memory that hardly grows with the number of cells."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal, Unpack

import numpy as np
import pandas as pd
from lightning.pytorch import LightningDataModule
from scvi import settings

from vmmscvi.dataloaders._count_files import CountFiles, Rows
from vmmscvi.dataloaders._minibatches import MinibatchLoader
from vmmscvi.dataloaders._registration import ObsColumns, register

N_CHECKED = 4096
"""Number of cells whose counts are checked before training."""
Part = Literal["all", "train", "validation"]


class StreamedCounts(LightningDataModule):
    """Data module of counts in h5ad files, whose minibatches are read while the model trains.

    Blocks of consecutive cells are read in random order into a buffer, which is shuffled and cut into
    minibatches. Memory holds the buffer, one minibatch, and a few numbers for every cell (row pointer, batch,
    covariates).

    Parameters
    ----------
    files
        Path of an h5ad file, or of several files with the same genes, whose cells are concatenated. Counts
        must be CSR matrices.
    layer
        Layer of raw counts; ``X`` by default.
    file_key
        Name of a new column of ``obs`` with the file of each cell (its name without suffix). To use files as
        batches, pass ``file_key="dataset", batch_key="dataset"``.
    registry
        Registry of a trained model (``model.registry_``), for inference on other cells with the same genes,
        batches and categories. It also supplies the columns by default.
    train_size
        Share of cells to train on; the others are for validation. Whole blocks are split, not single cells.
    batch_size
        Cells in a minibatch.
    block_size
        Number of consecutive cells that stay together in the split and in reading. Smaller blocks mix sorted
        files better but are slower to read.
    buffer_size
        Number of cells in the buffer, with 8 bytes for each non-zero count.
    seed
        Seed of split and order; ``scvi.settings.seed`` by default, or 0.
    **columns
        Columns of ``obs``, as in :meth:`vmmscvi.SCVI_VMM.setup_anndata`: ``batch_key``, ``labels_key``,
        ``size_factor_key``, ``categorical_covariate_keys`` and ``continuous_covariate_keys``.

    Raises
    ------
    TypeError
        If an argument does not exist.
    ValueError
        If a file, layer or column is missing, genes of files differ, counts are not CSR or not raw, a cell is
        empty, or a size is out of range. A cell with only stored zeros may be detected only when it is read.

    Notes
    -----
    Random blocks and a buffer follow scDataset (D'Ascenzo and Cultrera di Montesano, arXiv 2506.01883). Each
    of several processes reads its own part of an epoch; all of them need the same seed.

    Examples
    --------
    >>> from vmmscvi.dataloaders import StreamedCounts
    >>> cells = StreamedCounts(["counts.h5ad", "query.h5ad"], batch_key="batch")
    >>> model = SCVI_VMM(registry=cells.registry)
    >>> model.train(datamodule=cells, max_epochs=20)
    >>> z = model.get_latent_representation(dataloader=cells.inference_dataloader())
    >>> clusters = model.predict(dataloader=cells.inference_dataloader())
    """

    def __init__(
        self,
        files: str | PathLike[str] | Sequence[str | PathLike[str]],
        *,
        layer: str | None = None,
        file_key: str | None = None,
        registry: dict[str, Any] | None = None,
        train_size: float = 0.9,
        batch_size: int = 1024,
        block_size: int = 32,
        buffer_size: int = 16_384,
        seed: int | None = None,
        **columns: Unpack[ObsColumns],
    ) -> None:
        super().__init__()
        _check_sizes(train_size, batch_size, block_size, buffer_size)
        paths = [files] if isinstance(files, str | PathLike) else list(files)
        self.files = CountFiles([Path(path) for path in paths], layer)
        self.batch_size, self.block_size, self.buffer_size = batch_size, block_size, buffer_size
        self.seed: int = (settings.seed or 0) if seed is None else seed
        self.registry, self.annotations = register(self.files, columns, file_key, registry)
        self.train_idx, self.val_idx = self._split(train_size)
        self._check_counts()

    @property
    def n_obs(self) -> int:
        """Number of cells."""
        return self.files.shape[0]

    @property
    def n_vars(self) -> int:
        """Number of genes."""
        return self.files.shape[1]

    @property
    def n_val(self) -> int:
        """Number of validation cells."""
        return len(self.val_idx)

    @property
    def var_names(self) -> pd.Index:
        """Names of the genes."""
        return self.files.var_names

    @property
    def obs_names(self) -> pd.Index:
        """Names of the cells, read from the files on access."""
        return self.files.obs_names()

    def train_dataloader(self) -> MinibatchLoader:
        """Return shuffled minibatches of training cells, in a different order in every epoch.

        If several processes train together, these are the minibatches of this process.

        Returns
        -------
        MinibatchLoader
            Minibatches that contain every training cell once.
        """
        loader = self._loader(self.train_idx, self.batch_size, seed=self.seed)
        loader.trainer = self.trainer
        if self.trainer is not None:
            loader.part, loader.n_parts = self.trainer.global_rank, self.trainer.world_size
        return loader

    def state_dict(self) -> dict[str, Any]:
        """Return the entry of a checkpoint: the seed of the order."""
        return {"seed": self.seed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the order of cells from a checkpoint."""
        self.seed = state_dict["seed"]

    def val_dataloader(self) -> MinibatchLoader | list[Any]:
        """Return minibatches of validation cells, in the order of the files."""
        return self._loader(self.val_idx, self.batch_size) if self.n_val else []

    def inference_dataloader(self, cells: Part = "all", batch_size: int | None = None) -> MinibatchLoader:
        """Return minibatches in the order of the files, as ``dataloader`` of a trained model's methods.

        Parameters
        ----------
        cells
            ``"all"``, ``"train"`` or ``"validation"``.
        batch_size
            Cells in a minibatch; as in training by default.

        Returns
        -------
        MinibatchLoader
            The minibatches.

        Raises
        ------
        ValueError
            If there are no such cells.
        """
        parts = {"all": np.arange(self.n_obs), "train": self.train_idx, "validation": self.val_idx}
        if cells not in parts or not len(parts[cells]):
            found = [name for name, rows in parts.items() if len(rows)]
            raise ValueError(f"`cells` must be one of {found}, found {cells!r}.")
        return self._loader(parts[cells], batch_size or self.batch_size)

    def sample_dataloader(self, n_cells: int) -> MinibatchLoader:
        """Return minibatches of random training cells, from which the prior is initialised.

        Cells are drawn uniformly without replacement.

        Parameters
        ----------
        n_cells
            Number of cells; all cells if there are fewer.

        Returns
        -------
        MinibatchLoader
            The minibatches.
        """
        rng = np.random.default_rng(self.seed)
        rows = rng.choice(self.train_idx, min(n_cells, len(self.train_idx)), replace=False)
        return self._loader(np.sort(rows), self.batch_size)

    def _loader(self, rows: Rows, batch_size: int, seed: int | None = None) -> MinibatchLoader:
        # without shuffling, one minibatch is enough
        buffer_size = batch_size if seed is None else self.buffer_size
        return MinibatchLoader(
            self.files, self.annotations, rows, batch_size, buffer_size, self.block_size, seed
        )

    def _split(self, train_size: float) -> tuple[Rows, Rows]:
        """Training and validation cells, both ascending."""
        starts = np.arange(0, self.n_obs, self.block_size)
        n_validation = 0 if train_size == 1 else max(round((1 - train_size) * len(starts)), 1)
        if n_validation >= len(starts):
            raise ValueError(
                f"`block_size` is {self.block_size}, which is too large to split {self.n_obs} cells into "
                f"training and validation cells with `train_size` {train_size}. Pass a smaller block size."
            )
        is_validation = np.zeros(len(starts), dtype=bool)
        is_validation[np.random.default_rng(self.seed).permutation(len(starts))[:n_validation]] = True
        of_cell = np.repeat(is_validation, self.block_size)[: self.n_obs]
        return np.flatnonzero(~of_cell), np.flatnonzero(of_cell)

    def _check_counts(self) -> None:
        """Check that no cell is empty, and check the values of some blocks spread over the files.

        Other blocks are checked when they are read.
        """
        self.files.require_counts(np.arange(self.n_obs), self.files.n_stored)
        n_blocks = max(min(N_CHECKED, self.n_obs) // self.block_size, 1)
        firsts = np.linspace(0, max(self.n_obs - self.block_size, 0), n_blocks).astype(np.int64)
        rows = np.unique(firsts[:, None] + np.arange(min(self.block_size, self.n_obs)))
        with self.files.open() as counts:
            some = counts.read(rows)
        values = some.data
        wrong = values[~(np.isfinite(values) & (values >= 0) & (values == np.round(values)))]
        if len(wrong):
            raise ValueError(
                f"{self.files.where} has values that are not counts (for example {wrong[0]:g}). Pass the "
                "`layer` of the raw counts."
            )
        self.files.require_counts(rows, np.asarray(some.sum(axis=1)).ravel())


def _check_sizes(train_size: float, batch_size: int, block_size: int, buffer_size: int) -> None:
    if not 0 < train_size <= 1:
        raise ValueError(f"`train_size` must be above 0 and at most 1, found {train_size}.")
    for name, value in {"batch_size": batch_size, "block_size": block_size}.items():
        if value < 1:
            raise ValueError(f"`{name}` must be a positive integer, found {value}.")
    if buffer_size < batch_size:
        raise ValueError(
            f"`buffer_size` must be at least `batch_size`, {batch_size}, because the buffer is cut into "
            f"minibatches; found {buffer_size}."
        )
