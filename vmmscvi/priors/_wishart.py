"""The scale of the prior on precisions: the expected width of a cluster."""

from __future__ import annotations

import math
from typing import Literal

WishartScale = Literal["learned", "half", "paper", "reference"] | float


def wishart_scale_factor(wishart_scale: WishartScale, n_components: int, n_latent: int) -> float:
    r"""Compute the factor ``c`` of a Wishart's scale matrix ``c I``.

    With ``p + 2`` degrees of freedom the expected precision is :math:`(p + 2) c I`.

    Parameters
    ----------
    wishart_scale
        One of these:

        - ``"half"``: :math:`E[\Lambda] = 4 I`, clusters half as wide as N(0, I), whatever their number;
        - ``"paper"``: :math:`E[\Lambda] = K^{1/p} I`, clusters that share the volume of N(0, I) if all ``K``
          are needed, which is wide if fewer are;
        - ``"reference"``: :math:`E[\Lambda] = K^{2/p} I`, as in the authors' code;
        - ``"learned"``: the same as ``"half"`` until the prior is initialised from clusters;
        - a positive number, which is returned unchanged.
    n_components
        Number ``K`` of components.
    n_latent
        Dimension ``p`` of the latent space.

    Returns
    -------
    float
        The factor ``c``.

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
