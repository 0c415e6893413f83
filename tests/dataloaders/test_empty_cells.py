"""Cells without a count are refused from disk as they are in memory, whatever the file stores for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from anndata import AnnData

from vmmscvi import SCVI_VMM
from vmmscvi.dataloaders import StreamedCounts, _streamed_counts

SMALL = {"batch_size": 16, "block_size": 4, "buffer_size": 64, "train_size": 1.0}
EMPTY = "cell150"
MESSAGE = rf"`layer`: `X` has at least 1 cells without any count \(for example \['{EMPTY}'\]\)"


@pytest.fixture
def stored_zeros(adata: AnnData, tmp_path: Path) -> Path:
    """A file with a cell in the middle whose stored counts are zeros."""
    first, last = adata.X.indptr[[150, 151]]
    adata.X.data[first:last] = 0
    assert adata.obs_names[150] == EMPTY and last > first
    adata.write_h5ad(tmp_path / "counts.h5ad")
    return tmp_path / "counts.h5ad"


@pytest.fixture
def looks_at_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few cells are looked at before training, so that the others have to be found later."""
    monkeypatch.setattr(_streamed_counts, "N_CHECKED", 8)


def test_stored_zeros_are_no_counts(stored_zeros: Path) -> None:
    with pytest.raises(ValueError, match=MESSAGE):
        StreamedCounts(stored_zeros, **SMALL)


@pytest.mark.usefixtures("looks_at_both_ends")
@pytest.mark.parametrize("loader", ["train_dataloader", "inference_dataloader"])
def test_stored_zeros_are_found_when_they_are_read(stored_zeros: Path, loader: str) -> None:
    streamed = StreamedCounts(stored_zeros, **SMALL)
    with pytest.raises(ValueError, match=MESSAGE):
        list(getattr(streamed, loader)())


@pytest.mark.usefixtures("looks_at_both_ends")
@pytest.mark.parametrize("start", ["cells", "embedding"])
def test_no_model_trains_on_stored_zeros(
    stored_zeros: Path, short_training: dict[str, Any], start: str
) -> None:
    streamed = StreamedCounts(stored_zeros, **SMALL)
    model = SCVI_VMM(registry=streamed.registry, n_components=8, n_hidden=16, n_latent=4)
    with pytest.raises(ValueError, match=MESSAGE):
        model.train(datamodule=streamed, **{**short_training, "start": start})
