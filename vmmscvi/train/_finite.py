"""Training stops when a loss is not a finite number, and says which and what to try."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from scvi.module.base import LossOutput


class NonFiniteTrainingError(RuntimeError):
    """A loss or a parameter became NaN or infinite."""


def require_finite(loss: LossOutput | Any, module: nn.Module, epoch: int) -> None:
    """Raise if a loss is NaN or infinite.

    Parameters
    ----------
    loss
        Anything with a scalar tensor ``loss``.
    module
        Where to look for the first parameter that is not finite.
    epoch
        Index of the epoch, for the message.

    Raises
    ------
    NonFiniteTrainingError
        Names the parts of the loss and the parameters that are not finite.
    """
    if torch.isfinite(loss.loss).all():
        return
    parts = [name for name, value in _parts(loss).items() if not torch.isfinite(value).all()]
    parameters = [name for name, p in module.named_parameters() if not torch.isfinite(p).all()]
    where = f"parameters that are not finite: {', '.join(parameters[:5])}" if parameters else (
        "all parameters are finite, so that the data or the step size is the cause"
    )  # fmt: skip
    raise NonFiniteTrainingError(
        f"Training stopped in epoch {epoch}: {' and '.join(parts) or 'the loss'} became NaN or infinite; {where}. "
        "Try a smaller learning rate (`plan_kwargs={'lr': ...}`), `plan_kwargs={'gradient_clip_val': 10.0}`, "
        "`gene_likelihood='nb'`, or a check of the data for extreme counts."
    )


def _parts(loss: LossOutput | Any) -> dict[str, Tensor]:
    if hasattr(loss, "reconstruction_loss"):
        return {**loss.reconstruction_loss, **loss.kl_local}
    return {name: value for name, value in loss._asdict().items() if name != "loss"}
