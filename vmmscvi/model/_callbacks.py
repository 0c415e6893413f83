"""The callbacks of a training."""

from __future__ import annotations

from typing import Any

from vmmscvi.model._request import TrainingRequest
from vmmscvi.starts import InitialisePrior
from vmmscvi.train import RestoreBestEpoch
from vmmscvi.train._arguments import early_stopping_of, is_ddp
from vmmscvi.train._reports import LogProgress, is_interactive


def callbacks_of(
    request: TrainingRequest, initialiser: InitialisePrior, kwargs: dict[str, Any]
) -> tuple[RestoreBestEpoch, list[Any]]:
    """Make the callbacks of a training; complete the arguments of the Trainer in place."""
    # scvi-tools counts validations, not epochs
    n_validations = request.n_warmup_epochs // (kwargs.get("check_val_every_n_epoch") or 1)
    n_waiting = kwargs.get("early_stopping_warmup_epochs") or 0
    kwargs["early_stopping_warmup_epochs"] = max(n_waiting, n_validations)
    best_epoch = RestoreBestEpoch(
        monitor=kwargs.get("early_stopping_monitor", "elbo_validation"),
        mode=kwargs.get("early_stopping_mode", "min"),
    )
    callbacks = [*(kwargs.pop("callbacks", None) or []), initialiser]
    if "enable_progress_bar" not in kwargs and not is_interactive():
        kwargs["enable_progress_bar"] = False
        callbacks.append(LogProgress())
    if request.early_stopping:
        callbacks.append(best_epoch)
        if is_ddp(kwargs.get("strategy")):
            callbacks.append(early_stopping_of(kwargs, request.patience))
    return best_epoch, callbacks
