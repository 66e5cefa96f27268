"""The masked recurrent network (MonoMRN, figure 2): state and mask from what was completed, then T steps on the active voxels."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wholescene.errors import InputError
from wholescene.geometry.selecting import indices_of
from wholescene.labels import UNKNOWN
from wholescene.layers.checkpoint import run
from wholescene.layers.occupancy_head import OccupancyHead
from wholescene.layers.sparse_gru import MaskedSparseGRU
from wholescene.ops.neighbours import links_of_mask
from wholescene.ops.trilinear import resize_volume
from wholescene.structures import Batch, Completed, Lifted
from wholescene.systems.halves import target_of
from wholescene.systems.refine.config import Refine
from wholescene.systems.refine.joint import Joint
from wholescene.systems.refine.sight import VoxelSight


@dataclass
class Trace:
    """What refinement did, step by step.

    Attributes:
        coarse: (B, K, X, Y, Z) logits of step 0, where they are kept.
        logits: T of them, where they are kept: in training, and where asked for.
        masks: T volumes (B, x, y, z) bool, the active voxels of each step.
        mask_logits: for each mask that the occupancy head made, (B, 2, x, y, z); kept in training.
        depth: (B, H, W) metres, of a depth head.
    """

    coarse: Tensor | None = None
    logits: list[Tensor] = field(default_factory=list)
    masks: list[Tensor] = field(default_factory=list)
    mask_logits: list[Tensor] = field(default_factory=list)
    depth: Tensor | None = None

    @property
    def active_share(self) -> Tensor:
        """(T, B) share of the voxels that were active in each step."""
        return torch.stack([mask.flatten(1).float().mean(1) for mask in self.masks])


class MaskedRecurrentNetwork(nn.Module):
    """Lifted and Completed to Completed, as often as asked (multi-step iterative refinement); weights are shared by the steps.

    Attributes:
        steps: taken where a call does not say.
        keeps_steps: keep the logits of every step in eval, too.
    """

    taught: Tensor

    def __init__(self, refine: Refine, joint: Joint, classes: int, *, activation_checkpointing: bool = False) -> None:
        """
        Args:
            refine: what it is.
            joint: what it is given.
            classes: K.
            activation_checkpointing: of the cell.

        Raises:
            InputError: a depth head without a map.
        """
        super().__init__()
        self.choice, self.joint, self.steps, self.keeps_steps = refine, joint, refine.steps, False
        self.activation_checkpointing = activation_checkpointing
        width = refine.width or joint.width
        self.begin = nn.Conv3d(joint.width, width, 1)
        self.sight = VoxelSight(refine, joint, width)
        self.cell = MaskedSparseGRU(width, self.sight.width, refine.kernel, "auto" if refine.sparse else "dense")
        self.head = nn.Linear(width, classes, bias=refine.answer == "own")
        if refine.answer == "correction":
            nn.init.zeros_(self.head.weight)  # training begins at the coarse answer
        if refine.mask != "all":
            self.occupancy = OccupancyHead(classes, refine.dropout)
        if refine.teach_steps:
            self.register_buffer("taught", torch.zeros((), dtype=torch.int64))  # saved, so that a resumed run does not teach anew

    def forward(self, lifted: Lifted, completed: Completed, batch: Batch, steps: int | None = None) -> Completed:
        """
        Args:
            lifted, completed: of the coarse system.
            batch: theirs.
            steps: T; 0 gives `completed` back.

        Returns:
            The refined state as volume, its logits (B, K, X, Y, Z), and in `extras` a `Trace` under "refinement".

        Raises:
            InputError: more steps than there are sets of reaches, or no depth where distance attention needs it.
        """
        steps = self.steps if steps is None else steps
        self.check_steps(steps)
        if steps == 0:
            return completed
        keeps = self.training or self.keeps_steps
        trace = Trace(completed.logits if keeps else None)
        look, trace.depth = self.sight.prepare(lifted, batch)
        start = torch.tanh(self.begin(completed.volume)).to(_kind(completed.volume)).movedim(1, -1)  # (B, x, y, z, C)
        before = state = start.flatten(0, 3)
        with torch.no_grad():
            coarse = pooled_probabilities(completed.logits, self.joint.factor)
        mask, logits = self._mask(coarse, None, batch, trace), completed.logits
        for step in range(steps):
            if not trace.masks or mask is not trace.masks[-1]:  # a table is made once a mask
                active, links = indices_of(mask), links_of_mask(mask, self.choice.kernel, table=self.choice.sparse)
            trace.masks.append(mask)
            state = run(self.cell, state, look(mask, step), active, links, recompute=self.activation_checkpointing)
            answer = self._answer(state, before, start.shape)
            if keeps or step == steps - 1:
                logits = self._on_grid(answer, completed.logits)
                trace.logits += [logits] if keeps else []
            if step < steps - 1 and self.choice.mask == "dynamic":
                mask = self._mask(self._believed(answer, coarse), mask, batch, trace)
        volume = state.view(start.shape).movedim(-1, 1)
        return Completed(volume, completed.grid, logits, completed.auxiliary, {**completed.extras, "refinement": trace})

    def check_steps(self, steps: int) -> None:
        """Refuse a number of steps that cannot be taken.

        Raises:
            InputError: a negative one, or more than there are sets of reaches.
        """
        if steps < 0 or (self.choice.reach_per_step and steps > self.choice.steps):
            most = f", at most {self.choice.steps}, for each step has reaches of its own" if self.choice.reach_per_step else ""
            raise InputError(f"{steps} refinement steps: expected 0 or more{most}")

    @torch.no_grad()
    def _believed(self, answer: Tensor, coarse: Tensor) -> Tensor:
        """(B, K, x, y, z) class probabilities after a step, on the grid of the state; coarse: those before the first."""
        return torch.softmax(answer if self.choice.answer == "own" else coarse.clamp(min=1e-12).log() + answer, 1)

    def _mask(self, probabilities: Tensor, before: Tensor | None, batch: Batch, trace: Trace) -> Tensor:
        """(B, x, y, z) bool: the active voxels by class probabilities (B, K, x, y, z), which get no gradient from it."""
        if self.choice.mask == "all":
            return torch.ones_like(probabilities[:, 0], dtype=torch.bool)
        logits = self.occupancy(probabilities.detach())
        if self.training:
            trace.mask_logits.append(logits)
        mask: Tensor = torch.softmax(logits.detach().float(), 1)[:, 1] > self.choice.threshold
        return mask | self._taught(batch, first=before is None) if self.training and self.choice.teach_steps else mask

    def _taught(self, batch: Batch, first: bool) -> Tensor:
        """(B, x, y, z) bool: what is truly occupied, while that is taught; else nothing."""
        self.taught += int(first)
        labels = occupied_labels(batch, self.joint.factor)
        return (labels == 1) & (self.taught <= self.choice.teach_steps)

    def _answer(self, state: Tensor, before: Tensor, shape: torch.Size) -> Tensor:
        """(B, K, x, y, z): logits, or what is added to the coarse ones."""
        said = (state if self.choice.answer == "own" else state - before).view(shape[0], -1, shape[-1])
        if self.training and self.choice.dropout:  # whole channels of a frame, as Dropout3d
            said = said * F.dropout(torch.ones_like(said[:, :1]), self.choice.dropout)
        answer: Tensor = self.head(said)
        return answer.view(*shape[:-1], -1).movedim(-1, 1)

    def _on_grid(self, answer: Tensor, coarse: Tensor) -> Tensor:
        """(B, K, X, Y, Z) on the batch's grid."""
        if answer.shape != coarse.shape:
            answer = resize_volume(answer, coarse.shape[2:])
        return answer if self.choice.answer == "own" else coarse + answer


def pooled_probabilities(logits: Tensor, factor: tuple[int, int, int], slab: int = 2) -> Tensor:
    """Softmax of logits (B, K, X, Y, Z), averaged over blocks: (B, K, X/fx, Y/fy, Z/fz); in slabs, so that the whole is never held."""
    parts = (torch.softmax(part.to(_kind(part)), 1) for part in logits.split(slab * factor[0], 2))
    return torch.cat([F.avg_pool3d(part, factor) if max(factor) > 1 else part for part in parts], 2)


def occupied_labels(batch: Batch, factor: tuple[int, int, int]) -> Tensor:
    """(B, x, y, z) uint8 on a grid so many times coarser: 1 where a block holds anything, 0 where it is rather empty than unknown, else 255.

    Raises:
        InputError: a batch without targets.
    """
    target = target_of(batch)

    def make() -> Tensor:
        labels = target[:, None]
        occupied, empty, unknown = (part.float() for part in ((labels > 0) & (labels != UNKNOWN), labels == 0, labels == UNKNOWN))
        known = torch.where(F.avg_pool3d(empty, factor) > F.avg_pool3d(unknown, factor), 0, UNKNOWN)
        return torch.where(F.max_pool3d(occupied, factor) > 0, 1, known)[:, 0].to(torch.uint8)

    return batch.once(("occupied", factor), make)


def _kind(values: Tensor) -> torch.dtype:
    return torch.float64 if values.dtype == torch.float64 else torch.float32
