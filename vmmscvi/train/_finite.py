"""Training stops when a loss is not a finite number, and says which and what to try."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from scvi.module.base import LossOutput

INVALID_PARAMETER = re.compile(r"Expected parameter (\w+) .*? of distribution (\w+)", re.DOTALL)
"""What ``torch.distributions`` says when it is given NaN; the only thing it has to tell it by."""


REMEDY = "Try a smaller learning rate (`lr`)."
"""What is said where the module has no advice of its own, an attribute ``remedy``."""


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
    raise _error(" and ".join(parts) or "the loss", module, epoch)


@contextmanager
def non_finite_explained(module: nn.Module, epoch: int) -> Iterator[None]:
    """Explain what torch raises on NaN, which often comes before there is a loss to look at.

    Distributions refuse parameters that are NaN, and Cholesky factorisations matrices.

    Parameters
    ----------
    module, epoch
        As in :func:`require_finite`.

    Raises
    ------
    NonFiniteTrainingError
        Names the quantity that was refused and the parameters that are not finite.
    """
    try:
        yield
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
        raise _error("a matrix of the prior", module, epoch) from error
    except ValueError as error:
        refused = INVALID_PARAMETER.search(str(error))
        if refused is None:
            raise
        raise _error(f"`{refused[1]}` of a {refused[2]} distribution", module, epoch) from error


def _error(quantity: str, module: nn.Module, epoch: int) -> NonFiniteTrainingError:
    names = [name for name, p in module.named_parameters() if not torch.isfinite(p).all()]
    where = (
        f"parameters that are not finite: {', '.join(names[:5])}"
        if names
        else "all parameters are finite, so that the data or the step size is the cause"
    )
    return NonFiniteTrainingError(
        f"Training stopped in epoch {epoch}: {quantity} became NaN or infinite; {where}. "
        f"{getattr(module, 'remedy', REMEDY)}"
    )


def _parts(loss: LossOutput | Any) -> dict[str, Tensor]:
    if hasattr(loss, "reconstruction_loss"):
        return {**loss.reconstruction_loss, **loss.kl_local}
    return {name: value for name, value in loss._asdict().items() if name != "loss"}
