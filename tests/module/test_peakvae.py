"""The embedding of accessibility does not depend on the number of open peaks, which the decoder receives."""

from __future__ import annotations

import numpy as np
import pytest
import scvi
import torch
from anndata import AnnData
from sklearn.linear_model import LinearRegression

from vmmscvi import PEAKVI_VMM
from vmmscvi.data import simulate_peaks
from vmmscvi.module import PEAKVMMVAE

N_PEAKS = 30


def module(**options: object) -> PEAKVMMVAE:
    torch.manual_seed(0)
    built = PEAKVMMVAE(N_PEAKS, n_batch=2, n_hidden=16, n_latent=3, n_cats_per_cov=None, **options)
    for parameter in built.z_decoder.parameters():  # all inputs are read
        torch.nn.init.normal_(parameter, std=0.3)
    return built.eval()


def minibatch(n_covariates: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    tensors = {
        "X": (torch.rand(6, N_PEAKS, generator=generator) < torch.linspace(0.1, 0.9, 6)[:, None]).float(),
        "batch": torch.zeros(6, 1).long(),
        "labels": torch.zeros(6, 1).long(),
    }
    if n_covariates:
        tensors["extra_continuous_covs"] = torch.randn(6, n_covariates, generator=generator)
    return tensors


@pytest.fixture(scope="module")
def uneven() -> AnnData:
    return simulate_peaks(n_cells=500, n_peaks=300, n_types=2, n_batches=1, depth=120, depth_sd=0.8, seed=0)


def share_of_depth(adata: AnnData, condition_on_depth: bool) -> float:
    """Share of the variance of log-depth that a linear regression on the embedding explains."""
    scvi.settings.seed = 0
    PEAKVI_VMM.setup_anndata(adata)
    model = PEAKVI_VMM(adata, prior="standard_normal", condition_on_depth=condition_on_depth, n_hidden=32)
    model.train(max_epochs=120, batch_size=64, enable_progress_bar=False, accelerator="cpu")
    z, depth = model.get_latent_representation(), np.log(np.asarray((adata.X > 0).sum(1)).ravel())
    return float(LinearRegression().fit(z, depth).score(z, depth))


def test_the_embedding_does_not_hold_the_depth(uneven: AnnData) -> None:
    told, not_told = share_of_depth(uneven, True), share_of_depth(uneven, False)
    assert told < 0.25 and not_told > 0.5, (told, not_told)


@pytest.mark.parametrize("n_covariates", [0, 2])
def test_estimates_of_accessibility_are_those_at_the_mean_depth(n_covariates: int) -> None:
    built, tensors = module(n_continuous_cov=n_covariates), minibatch(n_covariates)
    built.standardized.running_mean.fill_(2.0)
    with torch.no_grad():
        _, estimated = built(tensors, compute_loss=False, generative_kwargs={"use_z_mean": True})
        outputs, modelled, _ = built(tensors, generative_kwargs={"use_z_mean": True})
        others = tensors.get("extra_continuous_covs", torch.zeros(6, 0))
        at_mean = torch.cat((outputs["qz"].loc, others, torch.zeros(6, 1)), dim=1)
        expected = built.z_decoder(at_mean, tensors["batch"])
    torch.testing.assert_close(estimated["px"], expected)
    assert (modelled["px"] - expected).abs().max() > 1e-3


def test_depth_is_standardised_over_all_minibatches() -> None:
    built = module().train()
    depths = []
    for seed in range(5):
        x = (torch.rand(50, N_PEAKS, generator=torch.Generator().manual_seed(seed)) < 0.5).float()
        built.inference(x, torch.zeros(50, 1).long(), None, None)
        depths.append((x.sum(1) + 1).log())
    depth = torch.stack(depths)
    torch.testing.assert_close(built.standardized.running_mean, depth.mean().reshape(1))
    torch.testing.assert_close(built.standardized.running_var, depth.var(1).mean().reshape(1))


def test_several_samples_are_decoded_at_each_cells_depth() -> None:
    built, tensors = module(), minibatch()
    with torch.no_grad():
        outputs, decoded = built(tensors, inference_kwargs={"n_samples": 4}, compute_loss=False)
    assert outputs["z"].shape == (4, 6, 3) and decoded["px"].shape == (4, 6, N_PEAKS)
