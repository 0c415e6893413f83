"""The encoder of fragments does not see how many a cell has."""

from __future__ import annotations

import pytest
import torch

from vmmscvi.module import POISSONVMMVAE

N_PEAKS = 12


def module(**options: object) -> POISSONVMMVAE:
    torch.manual_seed(0)
    built = POISSONVMMVAE(N_PEAKS, n_batch=2, n_hidden=8, n_latent=3, n_continuous_cov=1, **options)
    return built.eval()


@pytest.mark.parametrize("scale", [0.1, 7.0])
def test_cells_of_the_same_shares_have_the_same_posterior(scale: float) -> None:
    values, batch = torch.rand(5, N_PEAKS), torch.zeros(5, 1).long()
    covariate = torch.randn(5, 1)
    encoder = module().z_encoder
    one, other = (encoder(torch.cat((each, covariate), 1), batch)[0] for each in (values, scale * values))
    torch.testing.assert_close(one.loc, other.loc)
    assert not torch.allclose(one.loc, encoder(torch.cat((values, covariate + 1), 1), batch)[0].loc)


def test_with_scvis_inputs_depth_moves_the_posterior() -> None:
    values = torch.rand(5, N_PEAKS + 1)
    encoder = module(encode_shares=False).z_encoder
    one, other = (encoder(each, torch.zeros(5, 1).long())[0] for each in (values, 7 * values))
    assert (one.loc - other.loc).abs().min() > 1e-3


def test_a_cell_without_fragments_has_a_finite_posterior() -> None:
    posterior, _ = module().z_encoder(torch.zeros(2, N_PEAKS + 1), torch.zeros(2, 1).long())
    assert torch.isfinite(posterior.loc).all()
