"""Which cells a prior is initialised from: training cells, at most so many, without a trace."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scvi
import torch
from anndata import AnnData
from lightning.pytorch import LightningDataModule
from torch import Tensor

from vmmscvi import SCVI_VMM
from vmmscvi.starts import FromEmbedding
from vmmscvi.starts._sample import BATCH_SIZE, dense, n_cells_of, training_sample

Loaded = Callable[[Iterable[Any]], LightningDataModule]


@pytest.fixture
def datamodule() -> SimpleNamespace:
    """25,000 cells, whose first gene is their number; every fifth is for validation."""
    adata = AnnData(np.stack((np.arange(25_000), np.ones(25_000)), axis=1).astype(np.float32))
    SCVI_VMM.setup_anndata(adata)
    manager = SCVI_VMM._get_most_recent_anndata_manager(adata)
    cells = np.random.default_rng(1).permutation(25_000)
    return SimpleNamespace(adata_manager=manager, train_idx=cells[cells % 5 != 0])


def numbers(sample: Any) -> np.ndarray:
    return np.concatenate([tensors["X"][:, 0].numpy() for tensors in sample]).astype(int)


def test_cells_are_sampled_from_the_training_cells_in_their_order(datamodule: Any) -> None:
    sample = training_sample(datamodule, 3000)
    found = numbers(sample)
    assert len(np.unique(found)) == 3000 and (np.diff(found) > 0).all()
    assert set(found) <= set(datamodule.train_idx)
    assert found[1500] == pytest.approx(12_500, rel=0.1), "from all parts of the data"
    np.testing.assert_array_equal(numbers(sample), found)  # a second pass sees the same
    assert max(map(n_cells_of, sample)) == BATCH_SIZE


def test_the_seed_decides_which_cells_are_drawn(datamodule: Any) -> None:
    def drawn(seed: int) -> list[int]:
        scvi.settings.seed = seed
        return list(numbers(training_sample(datamodule, 500)))

    assert drawn(1) == drawn(1) != drawn(2)


def test_all_training_cells_are_taken_where_there_are_few(datamodule: Any) -> None:
    datamodule.train_idx = datamodule.train_idx[:100]
    np.testing.assert_array_equal(numbers(training_sample(datamodule)), np.sort(datamodule.train_idx))


def test_clusters_are_looked_for_in_twenty_thousand_cells_at_most(datamodule: Any) -> None:
    datamodule.train_idx = np.arange(25_000)
    assert sum(map(n_cells_of, FromEmbedding(None).sample(datamodule))) == 20_000


def test_cells_can_be_named_and_random_states_are_left_alone(datamodule: Any) -> None:
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    sample = training_sample(datamodule, 50)
    np.testing.assert_array_equal(numbers(training_sample(datamodule, 3, np.array([7, 3, 5]))), [3, 5, 7])
    np.testing.assert_array_equal(np.random.get_state()[1], before[0])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1]) or len(list(sample)) == 1


class Loader:
    """Minibatches that come in another order every time."""

    def __init__(self, n_cells: int, n_genes: int = 2, batch_size: int = 100) -> None:
        self.n_cells, self.n_genes, self.batch_size, self.n_read = n_cells, n_genes, batch_size, 0

    def __iter__(self) -> Any:
        for cells in torch.randperm(self.n_cells).split(self.batch_size):
            self.n_read += len(cells)
            yield {"X": cells[:, None].float().expand(-1, self.n_genes), "batch": None}


@pytest.mark.parametrize(
    ("n_genes", "limit", "expected"),
    [(2, 2500, 2500), (2, 2450, 2500), (40_000, 3000, 2500), (2, 9000, 5000), (2, 8, 100)],
)
def test_of_cells_that_are_read_once_the_first_are_kept(
    n_genes: int, limit: int, expected: int, loaded: Loaded, caplog: pytest.LogCaptureFixture
) -> None:
    """40,000 genes and two cells more than fit in memory would be 2500 cells."""
    loader = Loader(5000, n_genes)
    with caplog.at_level(logging.WARNING, logger="vmmscvi"):
        sample = training_sample(loaded(loader), limit)
    assert sum(map(n_cells_of, sample)) == expected == loader.n_read
    np.testing.assert_array_equal(numbers(sample), numbers(sample))
    assert ("shuffle the data" in caplog.text) is (limit < 5000)


def test_minibatches_are_made_by_the_hooks_of_the_data_module(loaded: Loaded) -> None:
    module = loaded([{"counts": [[1.0, 2.0]]}, {"counts": [[3.0, 4.0]]}])
    module.on_before_batch_transfer = lambda batch, _: {"X": torch.tensor(batch["counts"])}
    module.on_after_batch_transfer = lambda batch, _: {"X": 2 * batch["X"]}
    assert [minibatch["X"].tolist() for minibatch in training_sample(module)] == [[[2, 4]], [[6, 8]]]


def test_a_data_module_may_draw_its_own_sample() -> None:
    asked: list[int] = []
    module = SimpleNamespace(sample_dataloader=lambda n: asked.append(n) or ["own"])
    assert training_sample(module, 17) == ["own"] and asked == [17]


def test_sparse_minibatches_become_dense_and_missing_entries_are_left_out() -> None:
    counts = torch.poisson(torch.ones(3, 4))
    found: dict[str, Tensor] = dense({"X": counts.to_sparse_csr(), "batch": torch.ones(3, 1), "labels": None})
    assert found.keys() == {"X", "batch"} and torch.equal(found["X"], counts)
