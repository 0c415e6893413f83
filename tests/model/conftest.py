"""Trainings whose prior starts from the embedding, watched epoch by epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import scvi
import torch
from anndata import AnnData
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from vmmscvi import SCVI_VMM
from vmmscvi.priors import CoarsenedMixture
from vmmscvi.starts import _clusters

State = dict[str, Tensor]

TRAINING: dict[str, Any] = {
    "max_epochs": 10,  # five of them are the warm-up
    "batch_size": 32,
    "lr": 1e-2,
    "accelerator": "cpu",
    "enable_progress_bar": False,
}


class Watch(Callback):
    """States of the module when the first minibatch of every epoch comes, and at the end of every epoch."""

    def __init__(self) -> None:
        self.at_start: list[State] = []
        self.at_end: list[State] = []
        self.at_validation: list[State] = []
        self.n_components: list[int] = []
        self.all_in_training_mode = True

    @staticmethod
    def copied(module: torch.nn.Module) -> State:
        """Parameters and buffers; the cache of the centres, NaN before it is filled, left out."""
        return {
            n: v.clone() for n, v in module.state_dict().items() if not n.startswith("latent_prior.center_")
        }

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0:
            module = pl_module.module
            self.at_start.append(self.copied(module))
            self.n_components.append(getattr(module.latent_prior, "n_components", 0))
            self.all_in_training_mode &= all(layer.training for layer in module.modules())

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self.at_validation.append(self.copied(pl_module.module))

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.at_end.append(self.copied(pl_module.module))


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def training() -> dict[str, Any]:
    """Ten epochs, after which four types of cells in 300 are four clusters."""
    return dict(TRAINING)


@pytest.fixture
def quick_training() -> dict[str, Any]:
    """Two epochs, the first of them the warm-up."""
    return {**TRAINING, "max_epochs": 2}


@pytest.fixture(scope="session")
def embedded(counts: AnnData) -> Callable[[str], tuple[SCVI_VMM, Watch]]:
    """A model with a prior of this name that started from the embedding, trained once; not to be changed."""
    models: dict[str, tuple[SCVI_VMM, Watch]] = {}

    def get(prior: str = "vmm") -> tuple[SCVI_VMM, Watch]:
        if prior not in models:
            scvi.settings.seed = 0
            adata = counts.copy()
            SCVI_VMM.setup_anndata(adata, batch_key="batch")
            model, watch = SCVI_VMM(adata, prior=prior, n_components=20, n_hidden=16, n_latent=4), Watch()
            torch.manual_seed(1)  # whatever the making of the prior has drawn
            model.train(**TRAINING, callbacks=[watch])
            models[prior] = model, watch
            scvi.settings.seed = 0
        return models[prior]

    return get


@pytest.fixture
def found_mixtures(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, CoarsenedMixture]]:
    """Embeddings in which clusters were looked for while the test runs, and what was found."""
    found: list[tuple[Tensor, CoarsenedMixture]] = []
    fit = _clusters.fit_coarsened_mixture

    def recorded(z: Tensor, *args: Any, **kwargs: Any) -> CoarsenedMixture:
        found.append((z, fit(z, *args, **kwargs)))
        return found[-1][1]

    monkeypatch.setattr(_clusters, "fit_coarsened_mixture", recorded)
    return found
