"""Calibration of label probabilities: a temperature, and a comparison with the labels of held-out cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from vmmscvi.priors._component_labels import right_and_wrong

LARGEST = 50.0
"""Largest temperature; its inverse is the smallest."""
TINY = 1e-12
"""Added to probabilities before their logarithm is taken."""


def fit_temperature(
    probabilities: NDArray[np.floating], given: NDArray[np.integer], noise: float, n_labels: int
) -> float:
    """Find the temperature with which probabilities predict given labels best.

    Maximises the likelihood of the given labels, with a share ``noise`` of wrong ones (temperature scaling,
    Guo et al., ICML 2017). A normal prior on the logarithm of the temperature (mean 0, variance 1) keeps it
    near 1 if there are few cells.

    Parameters
    ----------
    probabilities
        Probability of each label or new type, shape ``(n, n_columns)``.
    given
        Column of each cell's given label, shape ``(n,)``.
    noise
        Share of wrong labels.
    n_labels
        Number of labels that may be given.

    Returns
    -------
    float
        The temperature; 1 without cells.
    """
    if len(given) == 0:
        return 1.0
    at = np.arange(len(given)), given

    def loss(log_temperature: float) -> float:
        own = tempered(probabilities, float(np.exp(log_temperature)))[at]
        is_right, is_wrong = right_and_wrong_labels(own, noise, n_labels)
        return float(-np.log(is_right + is_wrong + TINY).sum() + log_temperature**2 / 2)

    bound = float(np.log(LARGEST))
    return float(np.exp(minimize_scalar(loss, bounds=(-bound, bound), method="bounded").x))


def right_and_wrong_labels(
    probability: NDArray[np.floating], noise: float, n_labels: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Joint probability of each given label with being right, and with being wrong.

    Parameters
    ----------
    probability
        Probability that a cell is of its given label's type, shape ``(n,)``.
    noise
        Share of wrong labels.
    n_labels
        Number of labels that may be given.

    Returns
    -------
    tuple[numpy.ndarray, numpy.ndarray]
        Probabilities of shape ``(n,)``; their sum is the likelihood of the label.
    """
    right, wrong = np.exp(right_and_wrong(noise, n_labels))
    return right * probability, wrong * (1.0 - probability)


def tempered(probabilities: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """Raise probabilities to the power of one over the temperature, and normalise them.

    Parameters
    ----------
    probabilities
        Shape ``(n, n_labels)``; rows sum to one.
    temperature
        Above 1 for less certain probabilities. The order of the labels of a cell does not change.

    Returns
    -------
    numpy.ndarray
        Shape ``(n, n_labels)``; rows sum to one.
    """
    logits = np.log(np.asarray(probabilities, np.float64) + TINY) / temperature
    return np.asarray(np.exp(log_softmax(logits, axis=1)), np.float64)


@dataclass(frozen=True)
class LabelCalibration:
    """Agreement of label probabilities with the labels of held-out cells.

    Attributes
    ----------
    n_cells
        Number of labelled validation cells.
    accuracy
        Share of these cells whose most probable label is the given one.
    mean_probability
        Mean probability of the most probable label.
    expected_error
        Expected calibration error: mean absolute difference of probability and accuracy over bins, weighted
        by number of cells.
    bins
        Number of cells, mean probability and accuracy of each bin.
    """

    n_cells: int
    accuracy: float
    mean_probability: float
    expected_error: float
    bins: pd.DataFrame

    @classmethod
    def of(cls, probability: NDArray[Any], correct: NDArray[Any], n_bins: int = 15) -> LabelCalibration:
        """Compare the probabilities of the most probable labels with their correctness.

        Parameters
        ----------
        probability
            Probability of the most probable label, shape ``(n,)``.
        correct
            Whether that label is correct, shape ``(n,)``.
        n_bins
            Number of bins of equal width.

        Returns
        -------
        LabelCalibration
            Overall and by bin.
        """
        edges = np.linspace(0, 1, n_bins + 1)
        at = np.digitize(probability, edges[1:-1], right=True)
        table = pd.DataFrame({"bin": at, "probability": probability, "accuracy": np.asarray(correct, float)})
        by_bin = table.groupby("bin")
        bins = by_bin.mean()
        bins.insert(0, "n_cells", by_bin.size())
        bins.index = pd.IntervalIndex.from_arrays(edges[bins.index], edges[bins.index + 1], name="bin")
        difference = (bins["probability"] - bins["accuracy"]).abs()
        return cls(
            len(table),
            float(table["accuracy"].mean()),
            float(table["probability"].mean()),
            float((difference * bins["n_cells"]).sum() / len(table)),
            bins,
        )
