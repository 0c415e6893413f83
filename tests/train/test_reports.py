"""A training says where it is about ten times, says why it stopped, and keeps others quiet meanwhile only."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from vmmscvi.train._reports import CHATTY, LogProgress, ReportStopping, quiet_lightning


def test_chatty_loggers_are_quiet_for_a_while_and_as_before_afterwards() -> None:
    names = [*CHATTY, "another.library"]
    before = {name: logging.getLogger(name).level for name in names}
    with pytest.raises(ZeroDivisionError), quiet_lightning("another.library"):
        assert not any(logging.getLogger(name).isEnabledFor(logging.INFO) for name in names)
        assert all(logging.getLogger(name).isEnabledFor(logging.WARNING) for name in names)
        raise ZeroDivisionError
    assert {name: logging.getLogger(name).level for name in names} == before


@pytest.mark.parametrize(
    ("max_epochs", "expected"),
    [(40, list(range(4, 41, 4))), (3, [1, 2, 3]), (19, list(range(1, 20))), (None, [1, 2])],
)
def test_progress_is_a_line_about_ten_times(
    max_epochs: int | None, expected: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="vmmscvi")
    for epoch in range(max_epochs or 2):
        metrics = {"elbo_validation": torch.tensor(100.25)} if epoch % 2 else {}
        trainer: Any = SimpleNamespace(current_epoch=epoch, max_epochs=max_epochs, callback_metrics=metrics)
        LogProgress().on_train_epoch_end(trainer, SimpleNamespace())  # type: ignore[arg-type]
    assert [int(record.args[0]) for record in caplog.records] == expected  # type: ignore[index,arg-type]
    for record in caplog.records:
        epoch = int(record.args[0])  # type: ignore[index,arg-type]
        assert ("100.2" in record.getMessage()) is (epoch % 2 == 0)


@pytest.mark.parametrize("reason", [None, "No improvement"])
def test_the_reason_of_an_early_stop_is_kept_and_not_printed(reason: str | None) -> None:
    stopping, other = SimpleNamespace(early_stopping_reason=reason), SimpleNamespace()
    report = ReportStopping()
    trainer: Any = SimpleNamespace(callbacks=[other, stopping])
    report.on_fit_end(trainer, SimpleNamespace())  # type: ignore[arg-type]
    assert report.stopped_early is (reason is not None)
    assert stopping.early_stopping_reason is None
