"""Conversion of weights saved by version 0.1.0 to current names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vmmscvi.priors import PriorState

if TYPE_CHECKING:
    from vmmscvi.module._prior_owner import PriorOwnerMixin


def convert_state_dict(module: PriorOwnerMixin, state_dict: dict[str, Any], prefix: str) -> None:
    """Rename, in place, the weights of prior and pseudo-inputs saved by version 0.1.0.

    Parameters
    ----------
    module
        The module that will load the weights.
    state_dict
        The weights; changed if they were saved by that version.
    prefix
        Prefix of the names of this module's weights.

    Raises
    ------
    ValueError
        If pseudo-inputs do not fit this module's encoder.
    """
    if f"{prefix}prior._extra_state" not in state_dict:
        return
    old = {
        name.removeprefix(prefix): state_dict.pop(name)
        for name in list(state_dict)
        if name.startswith((f"{prefix}prior.", f"{prefix}pseudo_inputs."))
    }
    new = {f"latent_{name}": value for name, value in old.items() if name.startswith("prior.")}
    new["latent_prior._extra_state"] = _extra_state(old["prior._extra_state"])
    if "pseudo_inputs.expression" in old:
        new.update(_pseudo_inputs(module, old, _embedding_table(state_dict, prefix)))
    state_dict.update({prefix + name: value for name, value in new.items()})


def _extra_state(old: Tensor) -> Tensor:
    """Convert the flags "frozen", "in use" and "found" and the effective sample size to the new state."""
    frozen, in_use = bool(old[0]), bool(old[1])
    fitted = PriorState.FITTED if in_use else PriorState.WARMING_UP
    state = [float(PriorState.FROZEN if frozen else fitted)]
    if len(old) > 2:  # of a Gaussian mixture
        state.append(float(old[3]) if len(old) > 3 else 0.0)
    return torch.tensor(state, dtype=torch.float64)


def _pseudo_inputs(
    module: PriorOwnerMixin, old: dict[str, Tensor], embedding: Tensor | None
) -> dict[str, Tensor]:
    """Convert pseudo-cells of counts to inputs of the encoder, on the same scale."""
    (name, layout), *_ = module.encoder_layouts().items()
    expression, batch = old["pseudo_inputs.expression"], old["pseudo_inputs.batch_logits"]
    parts, logits = [expression], [batch]
    if "pseudo_inputs.continuous" in old:
        parts.append(old["pseudo_inputs.continuous"])
    if embedding is not None and sum(part.shape[1] for part in parts) < layout.n_values:
        parts.append(torch.softmax(batch, -1) @ embedding)
        logits = []
    i = 0
    while f"pseudo_inputs.category_logits.{i}" in old:
        logits.append(old[f"pseudo_inputs.category_logits.{i}"])
        i += 1
    values = torch.cat(parts, dim=1)
    if values.shape[1] != layout.n_values:
        raise ValueError(
            f"The pseudo-inputs of this checkpoint of version 0.1.0 have {values.shape[1]} values, but the "
            f"encoder expects {layout.n_values}. Train the model again."
        )
    target = f"pseudo_inputs.{name}"
    new = {f"{target}.values": values, f"{target}._extra_state": torch.tensor([expression.shape[1]])}
    for j in range(len(layout.n_categories)):
        new[f"{target}.category_logits.{j}"] = logits[j]
    return new


def _embedding_table(state_dict: dict[str, Any], prefix: str) -> Tensor | None:
    """Learned representations of the batches, shape ``(n_batch, dim)``; ``None`` if there are none."""
    return state_dict.get(f"{prefix}_embeddings_dict.batch.weight")
