"""When a training fools a classifier of batches: what the user says, and else what the data call for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from vmmscvi import MULTIVI_VMM, TOTALVI_VMM
from vmmscvi.model._training_mixin import TrainingMixin


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Arguments that trainings are called with, which do not take place."""
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(TrainingMixin, "train", lambda self, **kwargs: calls.append(kwargs))
    return calls


@pytest.mark.parametrize("proteins_are_missing", [False, True])
@pytest.mark.parametrize("wanted", [None, False, True])
def test_totalvi_fools_one_where_proteins_are_missing_or_it_is_told_to(
    asked: list[dict[str, Any]], proteins_are_missing: bool, wanted: bool | None
) -> None:
    model: Any = TOTALVI_VMM.__new__(TOTALVI_VMM)
    model._use_adversarial_classifier = proteins_are_missing
    model.train(adversarial_classifier=wanted, max_epochs=3)
    expected = proteins_are_missing if wanted is None else wanted
    assert asked == [{"plan_kwargs": {"adversarial_classifier": expected}, "max_epochs": 3}]


@pytest.mark.parametrize(("n_batch", "expected"), [(2, True), (1, False)])
def test_multivi_fools_one_where_there_are_batches(
    asked: list[dict[str, Any]], n_batch: int, expected: bool
) -> None:
    model: Any = MULTIVI_VMM.__new__(MULTIVI_VMM)
    model.module = SimpleNamespace(n_batch=n_batch)
    model.train(max_epochs=3)
    model.train(adversarial_mixing=False)
    model.train(plan_kwargs={"adversarial_classifier": not expected, "lr": 1e-3})
    assert asked == [
        {"plan_kwargs": {"adversarial_classifier": expected}, "max_epochs": 3},
        {"plan_kwargs": {"adversarial_classifier": False}, "max_epochs": None},
        {"plan_kwargs": {"adversarial_classifier": not expected, "lr": 1e-3}, "max_epochs": None},
    ]
