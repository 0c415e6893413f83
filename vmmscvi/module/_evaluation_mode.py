"""Context managers that set encoders to evaluation mode, or capture their arguments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Set a network to evaluation mode within the context, and restore the mode of every layer afterwards.

    Parameters
    ----------
    network
        The network; its layers may be in different modes.
    """
    in_training = [layer for layer in network.modules() if layer.training]
    # faster than torch's assignment, which first looks for parameters and buffers
    for layer in in_training:
        object.__setattr__(layer, "training", False)
    try:
        yield
    finally:
        for layer in in_training:
            object.__setattr__(layer, "training", True)


@contextmanager
def captured_arguments(encoders: Mapping[str, nn.Module]) -> Iterator[dict[str, tuple[Any, ...]]]:
    """Capture the positional arguments of calls of encoders, by name."""
    calls: dict[str, tuple[Any, ...]] = {}

    def catch(name: str) -> Any:
        return lambda _, arguments: calls.update({name: arguments})

    handles = [encoder.register_forward_pre_hook(catch(name)) for name, encoder in encoders.items()]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()
