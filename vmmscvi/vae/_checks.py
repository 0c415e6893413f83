"""Checks of single parameters; messages name the value and the expectation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np


def require_integer(name: str, value: Any) -> None:
    """Raise a ``ValueError`` unless ``value`` is a positive integer."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"`{name}` must be a positive integer, found {value!r}.")


def require_positive(name: str, value: Any) -> None:
    """Raise a ``ValueError`` unless ``value`` is a positive number."""
    if not isinstance(value, Real) or not 0 < float(value) < math.inf:
        raise ValueError(f"`{name}` must be a positive number, found {value!r}.")


def require_image_shape(image_shape: Sequence[int] | None, n_features: int) -> tuple[int, int, int]:
    """Return the shape of images; by default one channel and a square."""
    side = math.isqrt(n_features)
    if image_shape is None and side * side == n_features:
        return 1, side, side
    if image_shape is None or len(image_shape) != 3 or math.prod(image_shape) != n_features:
        raise ValueError(
            f"`image_shape` must be (channels, height, width) with a product of {n_features}, the number of "
            f"features; found {image_shape!r}."
        )
    n_channels, height, width = image_shape
    return n_channels, height, width
