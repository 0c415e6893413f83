"""Training curves show the logged values, and mark the epoch that early stopping restores."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from vmmscvi.plotting import training_curve, training_history

LOGGED = {
    "elbo_train": np.linspace(900, 700, 60),
    "elbo_validation": 750 + (np.arange(60) - 33.0) ** 2,
    "n_utilized_clusters": np.full(60, 9.0),
}


def lines(ax) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {line.get_label(): line.get_data() for line in ax.lines}


@pytest.mark.parametrize("as_frames", [False, True])
def test_curves_are_the_logged_values_by_epoch_from_one(as_frames):
    history = {name: pd.DataFrame({name: values}) for name, values in LOGGED.items()} if as_frames else LOGGED
    found = lines(training_curve(history, first_epoch=1))
    np.testing.assert_array_equal(found["training"], (np.arange(1, 61), LOGGED["elbo_train"]))
    np.testing.assert_array_equal(found["validation"], (np.arange(1, 61), LOGGED["elbo_validation"]))


@pytest.mark.parametrize("as_attribute", [False, True])
def test_the_table_of_an_estimator_for_arrays_is_taken(as_attribute):
    table = pd.DataFrame(LOGGED)
    found = lines(training_curve(SimpleNamespace(history_=table) if as_attribute else table, first_epoch=1))
    np.testing.assert_array_equal(found["training"], (np.arange(1, 61), LOGGED["elbo_train"]))


def test_the_epoch_of_the_best_validation_value_is_marked():
    ax = training_curve(LOGGED)
    ((epoch,), (value,)) = lines(ax)["best: epoch 34"]
    assert (epoch, value) == (34, 750.0)


def test_the_first_epochs_of_a_loss_are_left_out_unless_asked_for():
    assert lines(training_curve(LOGGED))["training"][0][0] == 4
    assert lines(training_curve(LOGGED, "n_utilized_clusters"))["training"][0][0] == 1
    assert lines(training_curve(LOGGED, first_epoch=20))["validation"][0][0] == 20


def test_a_model_can_be_given_instead_of_its_history():
    model = SimpleNamespace(history=LOGGED)
    np.testing.assert_array_equal(
        lines(training_curve(model))["training"], lines(training_curve(LOGGED))["training"]
    )


def test_curves_differ_in_dashes_too_for_grey_print():
    ax = training_curve(LOGGED)
    styles = {line.get_label(): line.get_linestyle() for line in ax.lines}
    assert styles["training"] != styles["validation"]


def test_clusters_in_use_are_counted_from_zero():
    assert training_curve(LOGGED, "n_utilized_clusters").get_ylim()[0] == 0


def test_one_epoch_is_enough():
    training_history({"elbo_train": [3.0], "elbo_validation": [4.0]})


def test_history_shows_the_elbo_and_for_mixtures_the_clusters(cells):
    assert [ax.get_ylabel() for ax in training_history(LOGGED).axes] == ["negative ELBO", "clusters in use"]
    normal = {name: values for name, values in LOGGED.items() if name != "n_utilized_clusters"}
    assert [ax.get_ylabel() for ax in training_history(normal).axes] == ["negative ELBO"]
    assert [ax.get_ylabel() for ax in training_history(cells, ["elbo"]).axes] == ["negative ELBO"]


@pytest.mark.parametrize("history", [SimpleNamespace(history=None), {}])
def test_a_model_that_was_not_trained_is_refused(history):
    with pytest.raises(ValueError, match="without logged values: train the model first"):
        training_curve(history)


def test_data_without_a_history_are_refused(cells):
    del cells.uns["vmmscvi"]
    with pytest.raises(ValueError, match='has no "history": pass the trained model'):
        training_curve(cells)


def test_a_quantity_that_was_not_logged_is_refused():
    with pytest.raises(ValueError, match=r"`metric` is 'nope'; expected a logged quantity: elbo_train"):
        training_history(LOGGED, ["elbo", "nope"])


def test_the_history_of_a_trained_model_can_be_drawn(trained):
    model = trained("vmm")
    epochs, values = lines(training_curve(model, first_epoch=1))["validation"]
    np.testing.assert_array_equal(values, model.history["elbo_validation"].to_numpy().ravel())
    assert list(epochs) == [1, 2, 3]
    assert [ax.get_ylabel() for ax in training_history(model).axes] == ["negative ELBO", "clusters in use"]


def test_quantities_logged_from_a_later_epoch_are_drawn_at_their_epochs(cells):
    frame = pd.DataFrame({"n_utilized_clusters": [8.0, 7.0]}, index=pd.Index([58, 59], name="epoch"))
    values = np.full(60, np.nan)
    values[58:] = [8.0, 7.0]
    for late in (frame, values):
        drawn = lines(training_curve({**LOGGED, "n_utilized_clusters": late}, "n_utilized_clusters"))
        np.testing.assert_array_equal(drawn["training"], ([59, 60], [8.0, 7.0]))
        elbo = lines(training_curve({**LOGGED, "n_utilized_clusters": late}))
        assert elbo["mixture starts"][0][0] == 58.5
        assert elbo["best: epoch 59"][1][0] == LOGGED["elbo_validation"][58]  # what is restored has a mixture
