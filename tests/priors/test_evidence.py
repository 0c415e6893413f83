"""The conjugate model's closed forms against textbook expressions."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.special import multigammaln
from torch import Tensor

from vmmscvi.priors import _evidence
from vmmscvi.priors._evidence import CENTER_CONFIDENCE, CONCENTRATION, Evidence, Wishart

N, P, K, N_EFFECTIVE = 57, 3, 4, 20.0


@pytest.fixture
def cells() -> tuple[Tensor, Tensor]:
    """Positions and responsibilities."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(N, P, generator=generator, dtype=torch.float64) * 3.0 + 5.0
    return z, torch.softmax(torch.randn(N, K, generator=generator, dtype=torch.float64), dim=-1)


def evidence_of(z: Tensor) -> Evidence:
    return Evidence(z, N_EFFECTIVE, Wishart(0.4, 6.5))


@pytest.mark.parametrize("most_remembered", [0, 1000])
@pytest.mark.parametrize("rows_at_a_time", [10, 1000])
def test_statistics_are_weighted_sums(
    cells: tuple[Tensor, Tensor], most_remembered: int, rows_at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_evidence, "MOST_REMEMBERED", most_remembered)
    monkeypatch.setattr(_evidence, "ROWS_AT_A_TIME", rows_at_a_time)
    z, r = cells
    found, weights = evidence_of(z).statistics(r), r * N_EFFECTIVE / N
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
