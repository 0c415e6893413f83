"""Cells of little depth lie close to the centre: clusters are looked for where that is undone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

from vmmscvi.priors import fit_coarsened_mixture
from vmmscvi.priors._depth import undo_depth

N_CLUSTERS, P = 5, 8


def cones(depth_sd: float, seed: int = 0, n_obs: int = 600) -> tuple[Tensor, np.ndarray, Tensor]:
    """Clusters about the centre, every cell multiplied by the root of its depth; labels; log-depths."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(N_CLUSTERS, size=n_obs)
    centers = rng.normal(size=(N_CLUSTERS, P))
    cells = centers[labels] + 0.35 * rng.normal(size=(n_obs, P))
    log_depth = depth_sd * rng.normal(size=n_obs)
    return torch.as_tensor(cells * np.exp(0.5 * log_depth)[:, None]), labels, torch.as_tensor(log_depth)


def test_clusters_that_are_cones_are_found() -> None:
    z, labels, log_depth = cones(1.2)
    found = fit_coarsened_mixture(z, 40, log_depth=log_depth).responsibilities.argmax(1)
    before = fit_coarsened_mixture(z, 40).responsibilities.argmax(1)
    assert adjusted_rand_score(labels, found) > 0.9 > adjusted_rand_score(labels, before) + 0.1


def test_distances_no_longer_follow_depth() -> None:
    z, _, log_depth = cones(1.2)
    z = z - z.mean(0)
    after = undo_depth(z, log_depth).z.norm(dim=1).log()
    assert np.corrcoef(z.norm(dim=1).log(), log_depth)[0, 1] > 0.5
    assert abs(np.corrcoef(after, log_depth)[0, 1]) < 1e-6


def test_the_logarithm_of_the_volume_element_is_zero_on_average() -> None:
    z, _, log_depth = cones(1.2, n_obs=50)
    scaled = undo_depth(z, log_depth).z
    assert float((scaled / z)[:, 0].log().mean()) == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("log_depth", [torch.full((600,), 3.0), -cones(1.2)[2]])
def test_cells_alike_in_depth_or_farther_out_for_want_of_it_are_taken_as_they_are(log_depth: Tensor) -> None:
    z, _, _ = cones(1.2)
    coordinates = undo_depth(z, log_depth)
    torch.testing.assert_close(coordinates.z, z)
    assert coordinates.mean_square == pytest.approx(1)


def test_the_expected_covariance_is_in_units_of_the_embedding() -> None:
    z, _, log_depth = cones(1.2, n_obs=300)
    one, other = (
        fit_coarsened_mixture(factor * z, 20, n_starts=1, log_depth=log_depth) for factor in (1.0, 10.0)
    )
    torch.testing.assert_close(one.responsibilities, other.responsibilities)
    torch.testing.assert_close(100 * one.expected_covariance, other.expected_covariance)


def test_a_cell_at_the_centre_is_finite() -> None:
    z, _, log_depth = cones(1.2, n_obs=50)
    z[0] = 0
    assert torch.isfinite(undo_depth(z, log_depth).z).all()


@pytest.mark.parametrize("log_depth", [torch.zeros(599), torch.full((600,), float("nan"))])
def test_depths_that_do_not_fit_are_refused(log_depth: Tensor) -> None:
    with pytest.raises(ValueError, match="`log_depth` must be a finite number for each of 600 cells"):
        fit_coarsened_mixture(cones(1.2)[0], 20, log_depth=log_depth)
