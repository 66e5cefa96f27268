"""The training frames of a run for Lightning."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from torch.utils.data import DataLoader

from wholescene.data import Dataset
from wholescene.preparation import Preparation
from wholescene.recipes import Recipe
from wholescene.training.data import Portion, TrainingFrames, collate_portion
from wholescene.training.progress import Progress
from wholescene.training.sampler import FrameStream, StreamSampler


class TrainingData(pl.LightningDataModule):
    """The frames of a run from where it stands: read off `progress` when the loader is asked for, after a checkpoint has been restored.

    Args:
        frames: of the training part.
        recipe: its batches, seed, augmentation and workers.
        preparation: of the system.
        total: frames of the whole run; None where a clock ends it.
        progress: of the run.
    """

    def __init__(self, frames: Dataset, recipe: Recipe, preparation: Preparation, total: int | None, progress: Progress) -> None:
        super().__init__()
        self.recipe, self.progress = recipe, progress
        self.frames = TrainingFrames(frames, preparation, recipe.data.augment, recipe.seed)
        self.stream = FrameStream(len(frames), recipe.seed, total)

    def train_dataloader(self) -> DataLoader[Any]:
        """Portions of this process."""
        recipe, trainer = self.recipe, self.trainer
        rank, world = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        sampler = StreamSampler(self.stream, recipe.batch_size, recipe.accumulation, rank, world, self.progress.frames)
        return DataLoader(self.frames, batch_sampler=sampler, num_workers=recipe.workers, collate_fn=collate_portion)

    def transfer_batch_to_device(self, batch: Portion, device: Any, dataloader_idx: int) -> Portion:
        """A portion to the device."""
        return batch.to(device, non_blocking=True)
