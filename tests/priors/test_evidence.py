"""The conjugate model's closed forms against textbook expressions."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.special import multigammaln
from torch import Tensor

from vmmscvi.priors._evidence import (
    CENTER_CONFIDENCE,
    CONCENTRATION,
    MOST_REMEMBERED,
    ROWS_AT_A_TIME,
    Evidence,
    Wishart,
)

N, P, K, N_EFFECTIVE = 57, 3, 4, 20.0


def drawn(n_obs: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(n_obs, P, generator=generator, dtype=torch.float64) * 3.0 + 5.0
    return z, torch.softmax(torch.randn(n_obs, K, generator=generator, dtype=torch.float64), dim=-1)


@pytest.fixture
def cells() -> tuple[Tensor, Tensor]:
    """Positions and responsibilities."""
    return drawn(N)


def evidence_of(z: Tensor) -> Evidence:
    return Evidence(z, N_EFFECTIVE, Wishart(0.4, 6.5))


@pytest.mark.parametrize("n_obs", [N, 2 * ROWS_AT_A_TIME + 1, MOST_REMEMBERED + 1])
def test_statistics_are_weighted_sums(n_obs: int) -> None:
    z, r = drawn(n_obs)
    found, weights = evidence_of(z).statistics(r), r * N_EFFECTIVE / n_obs
    torch.testing.assert_close(found.counts, weights.sum(0))
    torch.testing.assert_close(found.first, weights.mT @ z)
    torch.testing.assert_close(found.second, torch.einsum("nk,np,nq->kpq", weights, z, z))


def test_assignments_are_softmax_of_expected_log_densities(cells: tuple[Tensor, Tensor]) -> None:
    z, r = cells
    evidence = evidence_of(z)
    s = evidence.statistics(r)
    confidence, center, df, cholesky = evidence.posterior(s)
    expected = torch.empty_like(r)
    for k in range(K):
        precision = df[k] * torch.linalg.inv(cholesky[k] @ cholesky[k].mT)
        away = z - center[k]
        expected_log_det = (
            sum(torch.digamma((df[k] - i) / 2) for i in range(P)) - 2 * cholesky[k].diagonal().log().sum()
        )
        expected[:, k] = torch.digamma(CONCENTRATION + s.counts[k]) + 0.5 * (
            expected_log_det - P / confidence[k] - torch.einsum("np,pq,nq->n", away, precision, away)
        )
    torch.testing.assert_close(evidence.assign(s), torch.softmax(expected, -1), rtol=1e-10, atol=1e-14)


def test_the_marginal_likelihood_is_that_of_the_normal_wishart(cells: tuple[Tensor, Tensor]) -> None:
    z, r = cells
    evidence = evidence_of(z)
    s, (c, df) = evidence.statistics(r), evidence.wishart
    for k, found in enumerate(evidence.log_marginal(s)):
        n, confidence = s.counts[k], CENTER_CONFIDENCE + s.counts[k]
        scatter = (
            torch.eye(P, dtype=z.dtype) / c + s.second[k] - torch.outer(s.first[k], s.first[k]) / confidence
        )
        expected = (
            multigammaln(float(df + n) / 2, P)
            - multigammaln(df / 2, P)
            - 0.5 * df * P * math.log(c)
            - 0.5 * (df + n) * torch.logdet(scatter)
            + 0.5 * P * (math.log(CENTER_CONFIDENCE) - confidence.log())
            - 0.5 * P * n * math.log(math.pi)
        )
        assert float(found) == pytest.approx(float(expected), rel=1e-12)
