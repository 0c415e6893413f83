"""Cells without a count are refused from disk as they are in memory, whatever the file stores for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData

from vmmscvi import SCVI_VMM
from vmmscvi.dataloaders import StreamedCounts
from vmmscvi.dataloaders._streamed_counts import N_CHECKED

SMALL = {"batch_size": 16, "block_size": 4, "buffer_size": 64, "train_size": 1.0}
MESSAGE = r"`layer`: `X` has at least 1 cells without any count \(for example \['cell{}'\]\)"


def with_stored_zeros(adata: AnnData, cell: int, path: Path) -> Path:
    """A file with a cell whose stored counts are zeros."""
    first, last = adata.X.indptr[[cell, cell + 1]]
    adata.X.data[first:last] = 0
    assert adata.obs_names[cell] == f"cell{cell}" and last > first
    adata.write_h5ad(path)
    return path


UNSEEN = 5
"""A cell between the first two blocks that are looked at before training."""


@pytest.fixture
def stored_zeros(adata: AnnData, tmp_path: Path) -> Path:
    """A file of twice as many cells as are looked at before training; only later the empty one is found."""
    n_copies = 2 * N_CHECKED // adata.n_obs + 1
    names = [f"cell{i}" for i in range(n_copies * adata.n_obs)]
    many = AnnData(sp.vstack([adata.X] * n_copies, format="csr"), pd.DataFrame(index=names), adata.var[[]])
    return with_stored_zeros(many, UNSEEN, tmp_path / "counts.h5ad")


def test_stored_zeros_are_no_counts(adata: AnnData, tmp_path: Path) -> None:
    path = with_stored_zeros(adata, 150, tmp_path / "counts.h5ad")
    with pytest.raises(ValueError, match=MESSAGE.format(150)):
        StreamedCounts(path, **SMALL)


@pytest.mark.parametrize("loader", ["train_dataloader", "inference_dataloader"])
def test_stored_zeros_are_found_when_they_are_read(stored_zeros: Path, loader: str) -> None:
    streamed = StreamedCounts(stored_zeros, **SMALL)
    with pytest.raises(ValueError, match=MESSAGE.format(UNSEEN)):
        list(getattr(streamed, loader)())


@pytest.mark.parametrize("start", ["cells", "embedding"])
def test_no_model_trains_on_stored_zeros(
    stored_zeros: Path, short_training: dict[str, Any], start: str
) -> None:
    streamed = StreamedCounts(stored_zeros, **SMALL | {"batch_size": 128, "buffer_size": 1024})
    model = SCVI_VMM(registry=streamed.registry, n_components=8, n_hidden=16, n_latent=4)
    with pytest.raises(ValueError, match=MESSAGE.format(UNSEEN)):
        model.train(datamodule=streamed, **{**short_training, "start": start})
