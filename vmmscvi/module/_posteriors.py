"""Posteriors in the five forms in which scvi-tools' modules and encoders return them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.distributions import Distribution, Normal

MEAN_AND_VARIANCE = (("qz_m", "qz_v"), ("qzm", "qzv"))


def as_posterior(outputs: Any) -> Distribution:
    """Read the posterior of ``z`` from the outputs of an encoder or of a module's ``inference``.

    Parameters
    ----------
    outputs
        A distribution, a mapping with ``"qz"`` or a mean and a variance, or a tuple that begins with a
        distribution or with a mean and a variance.

    Returns
    -------
    Distribution
        The posterior.

    Raises
    ------
    ValueError
        If ``outputs`` has none of these forms.
    """
    if isinstance(outputs, Distribution):
        return outputs
    if isinstance(outputs, Mapping):
        qz = outputs.get("qz")
        if isinstance(qz, Distribution):
            return qz
        for mean, variance in MEAN_AND_VARIANCE:
            if mean in outputs:
                return Normal(outputs[mean], outputs[variance].sqrt())
    elif isinstance(outputs, tuple | list) and outputs:
        if isinstance(outputs[0], Distribution):
            return outputs[0]
        if len(outputs) > 1:
            return Normal(outputs[0], outputs[1].sqrt())
    raise ValueError(
        f"No posterior of `z` found in {type(outputs).__name__} {outputs!r:.100}: override `posterior`."
    )
