"""The training plan with an adversary that mixes batches or modalities in the latent space."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from scvi import REGISTRY_KEYS
from scvi.train import AdversarialTrainingPlan
from torch import Tensor

from vmmscvi.train._optimizers import held, parameters_of
from vmmscvi.train._plan import EmpiricalBayesPlanMixin

ADVERSARY_LR, ADVERSARY_EPS = 1e-3, 0.01
"""Adam's learning rate and epsilon for the classifier, as in scvi-tools."""


class AdversarialEmpiricalBayesPlan(EmpiricalBayesPlanMixin, AdversarialTrainingPlan):
    # On every minibatch the networks learn to fool the classifier; then classifier and prior learn.
    __doc__ = EmpiricalBayesPlanMixin.__doc__

    def other_optimizers(self) -> list[torch.optim.Optimizer]:
        """Create the optimizer of the classifier, if there is one."""
        if self.adversarial_classifier is False:
            return []
        parameters = [p for p in self.adversarial_classifier.parameters() if p.requires_grad]
        return [
            torch.optim.Adam(
                parameters,
                lr=ADVERSARY_LR,
                eps=ADVERSARY_EPS,
                weight_decay=self.weight_decay,
                fused=self._fused,
            )
        ]

    @property
    def _adversary_weight(self) -> Tensor | float:
        scale: Tensor | float | str = self.scale_adversarial_loss
        weight: Tensor | float = 1.0 - self.kl_weight if isinstance(scale, str) else scale
        return weight

    def extra_loss(self, batch: dict[str, Tensor], outputs: dict[str, Any]) -> Tensor | None:
        """Return the adversarial loss of the networks, small if the embedding does not reveal the batch."""
        weight = self._adversary_weight
        if self.adversarial_classifier is False or not weight > 0:
            return None
        z = self.module.latent_sample(outputs)
        fooled: Tensor = self.loss_adversarial_classifier(z, batch[REGISTRY_KEYS.BATCH_KEY], False) * weight
        return fooled

    def after_variational_step(
        self, batch: dict[str, Tensor], outputs: dict[str, Any], optimizers: list[LightningOptimizer]
    ) -> None:
        """Train the classifier."""
        weight = self._adversary_weight
        for optimizer in optimizers:
            z = self.module.latent_sample(outputs).detach()
            with held(parameters_of(self.trainer.optimizers[0])):
                loss = self.loss_adversarial_classifier(z, batch[REGISTRY_KEYS.BATCH_KEY], True) * weight
                self._step(optimizer, loss)
