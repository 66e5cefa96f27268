"""A system small enough to train in milliseconds, with what a resumed run must not lose: dropout and batch norm."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dial.config import GRID, DialConfig
from wholescene.structures import Batch, Prediction
from wholescene.systems.base import System, normalise

POISON = [255, 0, 255]  # a picture whose top-left pixel has this colour makes the term "smoothness" infinite
STEEP = [0, 255, 255]  # and this one leaves "steepness" finite, but not its gradient


class Dial(System):
    """Logits from the mean colour of a picture, through batch norm and dropout."""

    Config = DialConfig
    name = "dial"

    def __init__(self, config: DialConfig) -> None:
        super().__init__(config)
        norm = nn.Identity() if config.plain else nn.BatchNorm2d(config.width)
        self.trunk = nn.Sequential(nn.Conv2d(3, config.width, 3), norm, nn.ReLU())
        self.dropout = nn.Dropout(0.0 if config.plain else 0.3)
        self.head = nn.Linear(config.width, config.classes * int(np.prod(GRID.shape)))

    def forward(self, batch: Batch) -> Prediction:
        pooled = self.trunk(normalise(batch.pictures["main"], self.config.preparation)).mean((2, 3))
        return Prediction(self.head(self.dropout(pooled)).view(len(batch), self.config.classes, *GRID.shape))

    def losses(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        target = batch.targets[1].long()
        known = (target != 255).sum((1, 2, 3)).clamp(min=1)
        entropy = F.cross_entropy(prediction.logits, target, ignore_index=255, reduction="none").sum((1, 2, 3)) / known
        corner = batch.pictures["main"][:, :, 0, 0].tolist()
        poisoned, flat = (torch.tensor([c == kind for c in corner], device=target.device) for kind in (POISON, STEEP))
        smooth = torch.where(poisoned, torch.inf, prediction.logits.square().mean((1, 2, 3, 4)))
        steep = torch.where(flat, 0.0, 1.0) + prediction.logits.square().sum((1, 2, 3, 4)) * 0
        return {"cross_entropy": entropy.mean(), "smoothness": 0.1 * smooth.mean(), "steepness": steep.sqrt().mean()}
