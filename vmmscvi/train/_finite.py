"""Training stops when a loss is not a finite number, and says which and what to try.

A device is not waited for in every step. Where the optimizer can skip a step on the device (fused Adam),
:class:`FiniteGuard` makes it skip every step from the first loss on that is not finite: parameters stay as
they were before it. The loss is read every few steps and when an epoch ends, before it is validated, so that
no such epoch can become the best one. Other optimizers read every loss before they step.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

if TYPE_CHECKING:
    from scvi.module.base import LossOutput

INVALID_PARAMETER = re.compile(r"Expected parameter (\w+) .*? of distribution (\w+)", re.DOTALL)
"""What ``torch.distributions`` says when it is given NaN; the only thing it has to tell it by."""


REMEDY = "Try a smaller learning rate (`lr`)."
"""What is said where the module has no advice of its own, an attribute ``remedy``."""


STEPS_BETWEEN_CHECKS = 25
"""Steps after which a loss is read that the device has guarded."""


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
        Index of the epoch, for the message, which counts from 1 as all messages do.

    Raises
    ------
    NonFiniteTrainingError
        Names the parts of the loss and the parameters that are not finite.
    """
    if torch.isfinite(loss.loss).all():
        return
    parts = [name for name, value in _parts(loss).items() if not torch.isfinite(value).all()]
    raise _error(" and ".join(parts) or "the loss", module, epoch)


class FiniteGuard:
    """Keeps optimizers from stepping once a loss was not finite, without waiting for the device."""

    def __init__(self) -> None:
        self._total: Tensor | None = None
        self._last: dict[str, Any] = {}
        self._n_unread = 0

    def guard(
        self,
        kind: str,
        loss: LossOutput | Any,
        optimizer: torch.optim.Optimizer,
        module: nn.Module,
        epoch: int,
    ) -> None:
        """Let an optimizer skip its next step if this loss, or one before it, is not finite.

        Parameters
        ----------
        kind
            Name of the step, for the message.
        loss
            Anything with a scalar tensor ``loss``.
        optimizer
            What steps next. If it cannot skip a step on the device, the loss is read now.
        module, epoch
            As in :func:`require_finite`.

        Raises
        ------
        NonFiniteTrainingError
            If the loss is read, and it or one before it is not finite.
        """
        if not _skips_on_device(optimizer, loss.loss):
            require_finite(loss, module, epoch)
            return
        value = loss.loss.detach()
        self._total = value if self._total is None else self._total + value
        # NaN where any loss so far was NaN or infinite; fused Adam does not step where this is one
        optimizer.found_inf = (self._total - self._total).ne_(0.0)  # type: ignore[attr-defined]
        self._last[kind] = loss
        self._n_unread += 1
        if self._n_unread >= 2 * STEPS_BETWEEN_CHECKS:
            self.check(module, epoch)

    def check(self, module: nn.Module, epoch: int) -> None:
        """Read what was guarded since the last time.

        Raises
        ------
        NonFiniteTrainingError
            If a loss was not finite.
        """
        total, last = self._total, self._last
        self._total, self._last, self._n_unread = None, {}, 0
        if total is None or torch.isfinite(total):
            return
        for loss in last.values():
            require_finite(loss, module, epoch)
        raise _error("the loss", module, epoch)


def _skips_on_device(optimizer: torch.optim.Optimizer, loss: Tensor) -> bool:
    return (
        type(optimizer) in (torch.optim.Adam, torch.optim.AdamW)
        and bool(optimizer.defaults.get("fused"))
        and loss.device.type in ("cpu", "cuda")
        and loss.dtype == torch.float32
    )


@contextmanager
def without_validation() -> Iterator[None]:
    """Let distributions take their parameters unseen for a while: each look is a copy from the device."""
    before = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)


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
        f"Training stopped in epoch {epoch + 1}: {quantity} became NaN or infinite; {where}. "
        f"{getattr(module, 'remedy', REMEDY)}"
    )


def _parts(loss: LossOutput | Any) -> dict[str, Tensor]:
    if hasattr(loss, "reconstruction_loss"):
        return {**loss.reconstruction_loss, **loss.kl_local}
    return {name: value for name, value in loss._asdict().items() if name.endswith("nll")}
