"""Temperatures of label probabilities: overconfidence is found and corrected, also with wrong labels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from vmmscvi._label_calibration import LabelCalibration, fit_temperature, tempered

TEMPERATURE = 3.0


@pytest.fixture(scope="module")
def overconfident() -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of five labels that are three times as certain as they should be, and true labels."""
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=2.0, size=(4000, 5))
    truth = np.array([rng.choice(5, p=p) for p in softmax(logits, axis=1)])
    return softmax(TEMPERATURE * logits, axis=1), truth


def test_the_temperature_undoes_overconfidence(overconfident: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, truth = overconfident
    found = fit_temperature(probabilities, truth, noise=0.0, n_labels=5)
    assert found == pytest.approx(TEMPERATURE, rel=0.05)
    corrected = tempered(probabilities, found)
    errors = [
        LabelCalibration.of(p.max(1), p.argmax(1) == truth).expected_error for p in (probabilities, corrected)
    ]
    assert errors[0] > 0.1 and errors[1] < 0.03
    np.testing.assert_array_equal(corrected.argmax(1), probabilities.argmax(1))
    np.testing.assert_allclose(corrected.sum(1), 1.0)


def test_wrong_labels_are_no_reason_for_doubt_if_their_share_is_known(
    overconfident: tuple[np.ndarray, np.ndarray],
) -> None:
    probabilities, truth = overconfident
    rng = np.random.default_rng(1)
    is_wrong = rng.random(len(truth)) < 0.2
    given = np.where(is_wrong, (truth + rng.integers(1, 5, len(truth))) % 5, truth)
    assert fit_temperature(probabilities, given, noise=0.2, n_labels=5) == pytest.approx(TEMPERATURE, rel=0.1)
    assert fit_temperature(probabilities, given, noise=0.0, n_labels=5) > 1.3 * TEMPERATURE


def test_certain_and_wrong_probabilities_have_a_finite_temperature() -> None:
    probabilities = np.eye(3)[[0, 0, 1]]
    assert 1 < fit_temperature(probabilities, np.array([1, 0, 1]), noise=0.0, n_labels=3) <= 50


@pytest.mark.parametrize("n", [0, 1, 3])
def test_few_cells_leave_the_temperature_near_one(
    overconfident: tuple[np.ndarray, np.ndarray], n: int
) -> None:
    probabilities, truth = overconfident
    found = fit_temperature(probabilities[:n], truth[:n], noise=0.0, n_labels=5)
    assert found == 1.0 if n == 0 else 1 / 3 < found < 3
