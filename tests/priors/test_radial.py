"""Distances from the centre count less where the data say so."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

from vmmscvi.priors import coarsened, fit_coarsened_mixture
from vmmscvi.priors._radial import EXPONENTS, RadialCoordinates, radial_coordinates

N_CLUSTERS, P = 5, 8


def directions(depth_sd: float, seed: int = 0, n_obs: int = 600) -> tuple[Tensor, np.ndarray]:
    """Clusters about the centre, every cell multiplied by its depth: cones, unless all depths are alike."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(N_CLUSTERS, size=n_obs)
    centers = rng.normal(size=(N_CLUSTERS, P))
    cells = centers[labels] + 0.35 * rng.normal(size=(n_obs, P))
    depths = np.exp(depth_sd * rng.normal(size=(n_obs, 1)))
    return torch.as_tensor(cells * depths), labels


def test_the_volume_element_is_that_of_the_maps_jacobian() -> None:
    z, _ = directions(0.5, n_obs=20)
    z = z - z.mean(0)
    precision = torch.linalg.inv(z.mT @ z / len(z))
    for a, coordinates in zip(EXPONENTS, radial_coordinates(z), strict=True):

        def one(cell: Tensor, a: float = a) -> Tensor:
            return cell * ((cell @ precision @ cell) / P) ** (-a / 2)

        torch.testing.assert_close(coordinates.z, torch.stack([one(cell) for cell in z]))
        jacobians = torch.stack([torch.autograd.functional.jacobian(one, cell) for cell in z])
        expected = torch.linalg.slogdet(jacobians).logabsdet.mean().item()
        assert coordinates.log_volume == pytest.approx(expected)


def test_a_linear_map_changes_the_coordinates_by_that_map_alone() -> None:
    z, _ = directions(0.5)
    z = z - z.mean(0)
    matrix = torch.randn(P, P, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for one, other in zip(radial_coordinates(z), radial_coordinates(z @ matrix), strict=True):
        torch.testing.assert_close(one.z @ matrix, other.z)
        assert one.log_volume == pytest.approx(other.log_volume)


def test_clusters_that_are_cones_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    z, labels = directions(0.6)
    found = fit_coarsened_mixture(z, 40).responsibilities.argmax(1)
    monkeypatch.setattr(coarsened, "radial_coordinates", lambda centered: [RadialCoordinates(centered)])
    before = fit_coarsened_mixture(z, 40).responsibilities.argmax(1)
    assert adjusted_rand_score(labels, found) > adjusted_rand_score(labels, before) + 0.05


def test_clusters_of_cells_alike_in_depth_are_looked_for_in_the_embedding_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    z, labels = directions(0.0)
    mixture = fit_coarsened_mixture(z, 40)
    assert adjusted_rand_score(labels, mixture.responsibilities.argmax(1)) > 0.95
    monkeypatch.setattr(coarsened, "radial_coordinates", lambda centered: [RadialCoordinates(centered)])
    assert torch.equal(mixture.responsibilities, fit_coarsened_mixture(z, 40).responsibilities)


def test_what_the_prior_expects_is_in_the_units_of_the_embedding() -> None:
    z, _ = directions(0.6, n_obs=300)
    one, other = (fit_coarsened_mixture(factor * z, 20, n_starts=1) for factor in (1.0, 10.0))
    torch.testing.assert_close(one.responsibilities, other.responsibilities)
    torch.testing.assert_close(100 * one.expected_covariance, other.expected_covariance)


@pytest.mark.parametrize(("n_obs", "p"), [(50, 2), (4, 5)])
def test_few_dimensions_or_cells_are_taken_as_they_are(n_obs: int, p: int) -> None:
    z = torch.randn(n_obs, p, dtype=torch.float64)
    (only,) = radial_coordinates(z)
    assert only.z is z and only.log_volume == 0


def test_a_cell_at_the_centre_and_a_direction_without_variance_are_finite() -> None:
    z = torch.randn(50, 4, dtype=torch.float64)
    z = z - z.mean(0)
    z[:, 3], z[0] = 0, 0
    assert all(
        torch.isfinite(each.z).all() and np.isfinite(each.log_volume) for each in radial_coordinates(z)
    )
