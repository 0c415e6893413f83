"""Statistics over trials: spread, paired comparison with the best method, agreement between seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from sklearn.metrics import adjusted_rand_score

SIGNIFICANCE = 0.05
"""Methods whose adjusted p-value against the best is not below this are not told apart from it."""


@dataclass(frozen=True)
class Summary:
    """Mean and spread of one measure over trials; trials without a value do not count."""

    mean: float
    sd: float
    """Sample standard deviation (n - 1); NaN with fewer than two values."""

    n: int


def summarize(values: ArrayLike) -> Summary:
    """Return mean, sample standard deviation and number of the finite values of an array."""
    numbers = np.asarray(values, dtype=np.float64).ravel()
    numbers = numbers[np.isfinite(numbers)]
    n = len(numbers)
    return Summary(
        mean=float(numbers.mean()) if n else float("nan"),
        sd=float(numbers.std(ddof=1)) if n > 1 else float("nan"),
        n=n,
    )


@dataclass(frozen=True)
class Comparison:
    """How a method compares with the best of its table."""

    is_best: bool
    n_pairs: int
    """Trials that both methods have."""

    p_value: float
    """Two-sided, adjusted after Holm; NaN for the best itself and where there is no test."""

    @property
    def is_winner(self) -> bool:
        """Whether it is the best, or tested and not told apart from it.

        A method that could not be tested is no winner: nothing shows that it is as good.
        """
        return self.is_best or self.p_value >= SIGNIFICANCE


def compare_with_best(trials: pd.DataFrame, higher_is_better: bool = True) -> dict[str, Comparison]:
    """Compare every method with the one of the best mean, by paired t-tests over trials.

    Within a trial all methods see the same data, split and (for priors) initial weights, so that
    differences between methods vary less than the measures themselves: tests are paired. With five trials a
    rank test cannot come below p = 0.06 (Wilcoxon, two-sided), so that it would call everything equal;
    Student's t-test can, at the price of assuming that differences are about normal. p-values are adjusted
    for the number of methods. [Holm1979]_

    The best is chosen on the same trials that the tests use. That makes the tests a little liberal: read
    "not told apart" as such, not as "equal".

    Parameters
    ----------
    trials
        Values, a row for each trial and a column for each method; NaN where a trial is missing. The best is
        chosen among methods with the largest number of trials, so that a lucky half of the trials does not
        win.
    higher_is_better
        Whether the best is the one with the largest mean.

    Returns
    -------
    Mapping from method to its comparison; methods without any value are left out.

    References
    ----------
    .. [Holm1979] Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of
       Statistics 6 (1979).
    """
    counts = trials.notna().sum()
    present = [method for method in trials.columns if counts[method] > 0]
    if not present:
        return {}
    candidates = [method for method in present if counts[method] == counts.max()]
    means = trials[candidates].mean()
    best = means.idxmax() if higher_is_better else means.idxmin()
    others = [method for method in present if method != best]
    tests = {method: paired_t_test(trials[method], trials[best]) for method in others}
    adjusted = holm([p_value for p_value, _ in tests.values()])
    comparisons = {best: Comparison(is_best=True, n_pairs=int(counts[best]), p_value=float("nan"))}
    for method, p_value in zip(others, adjusted, strict=True):
        comparisons[method] = Comparison(is_best=False, n_pairs=tests[method][1], p_value=float(p_value))
    return {str(method): comparisons[method] for method in present}


def paired_t_test(first: ArrayLike, second: ArrayLike) -> tuple[float, int]:
    """Return the two-sided p-value of Student's paired t-test, and the number of pairs it rests on.

    Pairs with a missing value are left out. The p-value is NaN with fewer than two pairs, 1 if all pairs are
    equal, and 0 if all differ by the same amount.
    """
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    differences = differences[np.isfinite(differences)]
    n_pairs = len(differences)
    if n_pairs < 2:
        return float("nan"), n_pairs
    if np.all(differences == 0):
        return 1.0, n_pairs
    if np.ptp(differences) == 0:  # SciPy warns of lost precision here, although the limit is known
        return 0.0, n_pairs
    return float(stats.ttest_1samp(differences, 0.0).pvalue), n_pairs


def holm(p_values: Sequence[float]) -> NDArray[np.float64]:
    """Adjust p-values for their number, so that the chance of any false rejection stays below the level.

    Parameters
    ----------
    p_values
        Shape ``(m,)``; NaN, for no test, stays NaN and does not count.

    Returns
    -------
    Adjusted p-values, shape ``(m,)``.
    """
    p = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full_like(p, np.nan)
    tested = np.flatnonzero(np.isfinite(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    factors = len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return adjusted


def stability(clusterings: Mapping[int, ArrayLike]) -> Summary:
    """Return the mean adjusted Rand index over all pairs of seeds.

    Parameters
    ----------
    clusterings
        Hard assignments of the same cells in the same order, by seed, shape ``(n_obs,)`` each.

    Returns
    -------
    Summary over pairs: ``n`` is the number of pairs. Pairs share seeds, so that ``sd`` describes their
    spread and is no basis for a test.

    Raises
    ------
    ValueError
        If the clusterings have different numbers of cells.
    """
    labels = [np.asarray(clusters) for clusters in clusterings.values()]
    lengths = {len(clusters) for clusters in labels}
    if len(lengths) > 1:
        raise ValueError(
            f"`clusterings` have {sorted(lengths)} cells; expected the same cells for each seed."
        )
    return summarize([adjusted_rand_score(a, b) for a, b in combinations(labels, 2)])
