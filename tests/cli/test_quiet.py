"""Commands hide what libraries say to developers, and only that, and only meanwhile."""

from __future__ import annotations

import logging
import warnings

import pytest
import torch

from vmmscvi._threads import training_threads_kept
from vmmscvi.cli._quiet import CHATTY, quiet_libraries
from vmmscvi.train._reports import quiet_lightning


def test_reports_are_hidden_and_errors_are_not():
    with quiet_libraries():
        for name in CHATTY:
            assert not logging.getLogger(name).isEnabledFor(logging.WARNING)
            assert logging.getLogger(name).isEnabledFor(logging.ERROR)


def test_everything_is_as_before_afterwards_also_after_an_error():
    def state():
        return warnings.filters[:], warnings.showwarning, [logging.getLogger(name).level for name in CHATTY]

    before = state()
    with pytest.raises(ZeroDivisionError), quiet_libraries():
        raise ZeroDivisionError
    assert state() == before


@pytest.mark.parametrize("category", [DeprecationWarning, FutureWarning, PendingDeprecationWarning])
def test_deprecations_are_hidden(capsys, category):
    with quiet_libraries():
        warnings.warn("old", category, stacklevel=1)
    assert capsys.readouterr().err == ""


OF_TORCH = "`isinstance(treespec, LeafSpec)` is deprecated, use `isinstance(treespec, TreeSpec)` instead."


def test_a_training_hides_messages_of_torch_to_lightning(recwarn):
    with quiet_lightning():
        warnings.warn(OF_TORCH, stacklevel=1)
        warnings.warn("something else", stacklevel=1)
    assert [str(warning.message) for warning in recwarn] == ["something else"]


def test_harmless_warnings_are_hidden_and_others_take_one_line(capsys):
    with quiet_libraries():
        warnings.warn(OF_TORCH, stacklevel=1)
        warnings.warn("The 'val_dataloader' does not have many workers which may be slow.", stacklevel=1)
        warnings.warn("something is\nodd", stacklevel=1)
    assert capsys.readouterr().err == "Warning: something is odd\n"


def test_the_number_of_training_threads_survives_other_libraries():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        with training_threads_kept():
            torch.set_num_threads(2)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_warnings_that_explain_a_failure_are_shown_with_it(capsys):
    with quiet_libraries():
        warnings.warn("Variable names are not unique. To make them unique, call X.", stacklevel=1)
    assert capsys.readouterr().err == ""
    with pytest.raises(ZeroDivisionError), quiet_libraries():
        for _ in range(2):
            warnings.warn("Variable names are not unique. To make them unique, call X.", stacklevel=1)
        warnings.warn("The 'val_dataloader' does not have many workers which may be slow.", stacklevel=1)
        raise ZeroDivisionError
    expected = "Warning: Variable names are not unique. To make them unique, call X.\n"
    assert capsys.readouterr().err == expected
