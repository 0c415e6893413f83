"""The scale of the prior on precisions: how wide a cluster is expected to be."""

from __future__ import annotations

import math
from typing import Literal

WishartScale = Literal["learned", "half", "paper", "reference"] | float


def wishart_scale_factor(wishart_scale: WishartScale, n_components: int, n_latent: int) -> float:
    r"""Compute the number ``c`` that a Wishart's scale matrix ``c I`` is made of.

    With ``p + 2`` degrees of freedom the expected precision is :math:`(p + 2) c I`.

    Parameters
    ----------
    wishart_scale
        ``"half"``: clusters are expected to be half as wide as N(0, I), :math:`E[\Lambda] = 4 I`, however
        many there are. ``"paper"``: :math:`E[\Lambda] = K^{1/p} I`, clusters that share the volume of N(0, I)
        if ``K`` of them were needed, which is wide for the few that are. ``"reference"``, as in the authors'
        code: :math:`E[\Lambda] = K^{2/p} I`. ``"learned"``, which has a value only where a prior starts from
        clusters, is ``"half"`` until then. A positive number is returned as it is.
    n_components
        Number ``K`` of components.
    n_latent
        Dimension ``p`` of the latent space.

    Raises
    ------
    ValueError
        If ``wishart_scale`` is none of these.
    """
    if isinstance(wishart_scale, str):
        precisions = {
            "learned": 4.0,
            "half": 4.0,
            "paper": n_components ** (1.0 / n_latent),
            "reference": n_components ** (2.0 / n_latent),
        }
        if wishart_scale in precisions:
            return float(precisions[wishart_scale] / (n_latent + 2))
    elif 0 < wishart_scale < math.inf:
        return float(wishart_scale)
    raise ValueError(
        "`wishart_scale` must be 'learned', 'half', 'paper', 'reference' or a positive number, found "
        f"{wishart_scale!r}."
    )
