from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import adjusted_rand_score

from vmmscvi.benchmark._statistics import compare_with_best, holm, paired_t_test, stability, summarize


@pytest.fixture
def trials() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    level = rng.normal(0.7, 0.1, 5)  # what a trial does to all methods
    noise = rng.normal(0, 0.005, (3, 5))
    return pd.DataFrame({"best": level + noise[0], "close": level - 0.001 + noise[1], "far": level - 0.05})


def test_spread_is_the_sample_standard_deviation_of_what_is_there() -> None:
    summary = summarize([1.0, 2.0, 4.0, np.nan])
    assert summary.mean == pytest.approx(7 / 3)
    assert summary.sd == pytest.approx(stats.tstd([1.0, 2.0, 4.0]))
    assert summary.n == 3


@pytest.mark.parametrize(("values", "n"), [([], 0), ([np.nan], 0), ([0.5], 1)])
def test_one_value_or_none_has_no_spread(values: list[float], n: int) -> None:
    summary = summarize(values)
    assert np.isnan(summary.sd)
    assert summary.n == n


def test_paired_test_is_that_of_scipy() -> None:
    first, second = np.random.default_rng(1).normal(size=(2, 6))
    p_value, n_pairs = paired_t_test(first, second)
    assert p_value == pytest.approx(stats.ttest_rel(first, second).pvalue)
    assert n_pairs == 6


def test_paired_test_leaves_out_trials_that_one_method_lacks() -> None:
    first, second = np.random.default_rng(1).normal(size=(2, 6))
    with_gap = first.copy()
    with_gap[2] = np.nan
    p_value, n_pairs = paired_t_test(with_gap, second)
    keep = np.arange(6) != 2
    assert p_value == pytest.approx(stats.ttest_rel(first[keep], second[keep]).pvalue)
    assert n_pairs == 5


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("difference", "expected"), [(0.0, 1.0), (0.25, 0.0)])
def test_constant_differences_have_their_limit(difference: float, expected: float) -> None:
    values = np.array([0.5, 1.0, 2.0])
    assert paired_t_test(values + difference, values) == (expected, 3)


def test_a_single_pair_is_no_test() -> None:
    assert np.isnan(paired_t_test([0.5], [0.4])[0])


def test_adjustment_is_holms() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    p_values = np.random.default_rng(2).uniform(0, 0.3, 7)
    np.testing.assert_allclose(holm(p_values), multitest.multipletests(p_values, method="holm")[1])


def test_adjustment_by_hand() -> None:
    # sorted: 0.01 * 3, 0.02 * 2, 0.04 * 1, then never below one before
    np.testing.assert_allclose(holm([0.04, 0.01, 0.02]), [0.04, 0.03, 0.04])
    np.testing.assert_allclose(holm([0.6, 0.5]), [1.0, 1.0])


def test_missing_tests_do_not_count() -> None:
    adjusted = holm([0.01, np.nan, 0.03])
    np.testing.assert_allclose(adjusted[[0, 2]], [0.02, 0.03])
    assert np.isnan(adjusted[1])


def test_pairing_tells_apart_what_spread_over_trials_hides(trials: pd.DataFrame) -> None:
    comparisons = compare_with_best(trials)
    assert comparisons["best"].is_best
    assert stats.ttest_ind(trials["far"], trials["best"]).pvalue > 0.05
    assert not comparisons["far"].is_winner
    assert comparisons["close"].is_winner
    raw = [stats.ttest_rel(trials[name], trials["best"]).pvalue for name in ("close", "far")]
    np.testing.assert_allclose([comparisons["close"].p_value, comparisons["far"].p_value], holm(raw))


def test_the_smallest_wins_where_low_is_good(trials: pd.DataFrame) -> None:
    assert compare_with_best(trials, higher_is_better=False)["far"].is_best


def test_a_method_with_few_trials_is_not_the_best(trials: pd.DataFrame) -> None:
    trials["lucky"] = np.nan
    trials.loc[0, "lucky"] = 1.0
    comparisons = compare_with_best(trials)
    assert comparisons["best"].is_best
    assert not comparisons["lucky"].is_winner
    assert comparisons["lucky"].n_pairs == 1


def test_methods_without_values_are_left_out(trials: pd.DataFrame) -> None:
    trials["failed"] = np.nan
    assert "failed" not in compare_with_best(trials)
    assert compare_with_best(trials[["failed"]]) == {}


def test_stability_is_the_mean_over_pairs_of_seeds() -> None:
    labels = np.random.default_rng(3).integers(0, 3, (3, 40))
    summary = stability(dict(enumerate(labels)))
    pairs = [(0, 1), (0, 2), (1, 2)]
    assert summary.mean == pytest.approx(
        np.mean([adjusted_rand_score(labels[a], labels[b]) for a, b in pairs])
    )
    assert summary.n == 3


def test_stability_ignores_the_names_of_clusters() -> None:
    assert stability({0: ["a", "a", "b"], 1: ["x", "x", "y"]}).mean == pytest.approx(1.0)


def test_stability_refuses_different_cells() -> None:
    with pytest.raises(ValueError, match=r"\[2, 3\] cells"):
        stability({0: ["a", "b"], 1: ["a", "b", "c"]})
