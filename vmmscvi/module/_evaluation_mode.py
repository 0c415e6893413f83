"""Encoders for a while in evaluation mode, or watched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode for a while, and give every layer its own mode back afterwards.

    Parameters
    ----------
    network
        The network, any of whose layers may be in either mode.
    """
    in_training = [layer for layer in network.modules() if layer.training]
    # a module's own assignment looks for parameters and buffers first, every time
    for layer in in_training:
        object.__setattr__(layer, "training", False)
    try:
        yield
    finally:
        for layer in in_training:
            object.__setattr__(layer, "training", True)


@contextmanager
def captured_arguments(encoders: Mapping[str, nn.Module]) -> Iterator[dict[str, tuple[Any, ...]]]:
    """Catch the positional arguments that encoders are called with, by name."""
    calls: dict[str, tuple[Any, ...]] = {}

    def catch(name: str) -> Any:
        return lambda _, arguments: calls.update({name: arguments})

    handles = [encoder.register_forward_pre_hook(catch(name)) for name, encoder in encoders.items()]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()
