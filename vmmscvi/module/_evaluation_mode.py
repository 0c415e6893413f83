"""Evaluation mode for a while, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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
