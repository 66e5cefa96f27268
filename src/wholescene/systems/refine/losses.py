"""Deep supervision of refinement: every step's answer and every mask has its own terms (MonoMRN, "Loss")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from wholescene import losses
from wholescene.layers.depth_bins import log_depth_loss
from wholescene.losses import VoxelSums
from wholescene.lovasz import lovasz_softmax
from wholescene.structures import Batch
from wholescene.systems.config import SystemConfig
from wholescene.systems.halves import target_of
from wholescene.systems.refine.config import Refine
from wholescene.systems.refine.network import MaskedRecurrentNetwork, Trace, occupied_labels


def refinement_losses(network: MaskedRecurrentNetwork, trace: Trace, batch: Batch, config: SystemConfig) -> dict[str, Tensor]:
    """Sums over the steps, step i of T weighed decay^(T - i); names begin with "refine_".

    Args:
        network: whose they are.
        trace: of a training step.
        batch: with targets.
        config: of the whole system: class weights, and what its own cross-entropy is divided by.

    Raises:
        InputError: a batch without targets.
    """
    choice, target = network.choice, target_of(batch)
    weights = torch.tensor(config.weights_of_classes(), device=target.device)
    over: Literal["weights", "voxels"] = getattr(config, "cross_entropy_over", "weights")
    steps: list[dict[str, Tensor]] = []
    for logits in trace.logits:
        sums = VoxelSums.of(logits, target)
        terms = {"cross_entropy": losses.cross_entropy(sums, weights, over)}
        if choice.lovasz:
            terms["lovasz"] = lovasz_softmax(logits, target)
        if choice.affinities:
            terms |= {"semantic_affinity": losses.semantic_affinity(sums), "geometric_affinity": losses.geometric_affinity(sums)}
        steps.append(terms)
    found = {f"refine_{name}": _decayed([terms[name] for terms in steps], choice.decay) for name in steps[0]}
    if trace.mask_logits:
        occupied = occupied_labels(batch, network.joint.factor)
        masks = [losses.cross_entropy(VoxelSums.of(logits, occupied)) for logits in trace.mask_logits]
        found["refine_mask"] = choice.mask_weight * _decayed(masks, choice.decay)
    return found | _depth_loss(choice, trace, batch)


def _depth_loss(choice: Refine, trace: Trace, batch: Batch) -> dict[str, Tensor]:
    """Of the own depth head, where the frames know the depth."""
    truth = batch.depth_target if batch.depth_target is not None else batch.depth
    return {} if trace.depth is None or truth is None else {"refine_depth": log_depth_loss(trace.depth, truth)}


def _decayed(terms: Sequence[Tensor], decay: float) -> Tensor:
    """The sum of decay^(T - i) times term i, i from 1 to T."""
    return torch.stack([decay ** (len(terms) - 1 - i) * term for i, term in enumerate(terms)]).sum()
