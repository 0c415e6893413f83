"""Count what a training dispatches to the device: kernels, and copies to the host that wait for it.

Counts do not vary from run to run, unlike times, and tell on a CPU how a GPU will be kept waiting.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from lightning.pytorch.callbacks import Callback
from torch.utils._python_dispatch import TorchDispatchMode

HOST_COPY = "_local_scalar_dense"
"""What ``.item()``, ``float(tensor)`` and ``bool(tensor)`` dispatch; a device is waited for."""
NO_KERNEL = {
    "_unsafe_view", "alias", "as_strided", "chunk", "detach", "detach_", "diagonal", "empty", "empty_like",
    "empty_strided", "expand", "lift_fresh", "new_empty", "new_empty_strided", "permute", "select", "slice",
    "split", "split_with_sizes", "squeeze", "t", "transpose", "unbind", "unfold", "unsqueeze", "view",
    "view_as", "_reshape_alias", "set_",
}  # fmt: skip
"""Operations that only look at memory in another way, or allocate it."""


class OperationCounts(NamedTuple):
    """Means over the steps of an epoch.

    Attributes
    ----------
    kernels
        Operations that compute or move something.
    host_copies
        Copies of one number to the host.
    """

    kernels: float
    host_copies: float


class CountOperations(Callback):
    """Count the operations of one epoch: its training steps, and what is done when it ends.

    Validation is left out. Train for at least one more epoch.

    Parameters
    ----------
    epoch
        Index of the epoch.
    """

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.epoch = epoch
        self.operations: Counter[str] = Counter()
        """Number of dispatches of each operation, by name."""
        self.n_steps = 0
        self._mode = _Counting(self.operations)
        self._is_counting = False

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        """Begin to count."""
        if trainer.current_epoch == self.epoch:
            self.n_steps += 1
            self._count(True)

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        """Leave out the loading of data; after the last minibatch the epoch is finished."""
        batch_idx = args[-1]
        if batch_idx + 1 < trainer.num_training_batches:
            self._count(False)

    def on_validation_start(self, *_: Any) -> None:
        """Leave out the validation."""
        self._count(False)

    def on_validation_end(self, trainer: Any, *_: Any) -> None:
        """Go on with the end of the epoch."""
        if trainer.current_epoch == self.epoch and self.n_steps:
            self._count(True)

    def on_train_epoch_start(self, *_: Any) -> None:
        """Stop when the next epoch starts."""
        self._count(False)

    def on_train_end(self, *_: Any) -> None:
        """Stop in any case."""
        self._count(False)

    def result(self) -> OperationCounts:
        """Return the counts per step."""
        copies = self.operations[HOST_COPY]
        kernels = sum(n for name, n in self.operations.items() if name != HOST_COPY and is_kernel(name))
        return OperationCounts(kernels / self.n_steps, copies / self.n_steps)

    def _count(self, counts: bool) -> None:
        if counts and not self._is_counting:
            self._mode.__enter__()
        if self._is_counting and not counts:
            self._mode.__exit__(None, None, None)
        self._is_counting = counts


def is_kernel(name: str) -> bool:
    """Whether an operation, by its name without overload, computes or moves something."""
    return name not in NO_KERNEL and not name.startswith("profiler")


class _Counting(TorchDispatchMode):
    def __init__(self, operations: Counter[str]) -> None:
        super().__init__()
        self.operations = operations

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        packet = func.overloadpacket
        name = str(packet)
        self.operations[name.removeprefix("aten.")] += 1
        return func(*args, **(kwargs or {}))


def fused_adam(lr: float = 1e-3, eps: float = 0.01, weight_decay: float = 1e-6) -> dict[str, Any]:
    """Return the arguments of stock scVI's plan that update all parameters by one kernel."""
    return {
        "optimizer": "Custom",
        "optimizer_creator": lambda parameters: torch.optim.Adam(
            parameters, lr=lr, eps=eps, weight_decay=weight_decay, fused=True
        ),
    }
