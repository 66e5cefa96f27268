"""Symphonies' 3D half: the decoder layers, ASPP, and the head at the output's resolution (sections 3.1, 3.3 and 3.4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from wholescene import losses
from wholescene.geometry.frustums import frustum_ids
from wholescene.geometry.projection import Rounding, project_batch
from wholescene.layers.aspp import ASPP
from wholescene.layers.checkpoint import run
from wholescene.layers.slabs import cut, each, gather, may_stream
from wholescene.layers.unet3d import Upsample
from wholescene.losses import VoxelSums
from wholescene.structures import Batch, Completed, Lifted, Prediction
from wholescene.systems.halves import Half3D, answer_and_target, check_grid
from wholescene.systems.symphonies.config import SymphoniesConfig
from wholescene.systems.symphonies.decoder import SymphoniesDecoderLayer, surroundings
from wholescene.systems.symphonies.mirroring import mirrored_back, mirrored_frames, with_cameras_unmirrored
from wholescene.systems.symphonies.sight import look

_MAP_STRIDES = (4, 8, 16)


class SerialAttentions(nn.Module):
    """The Symphonies Decoder Layers, and atrous spatial pyramid pooling (ASPP) after one of them; `slab` slices of it at a time in eval."""

    slab = 16

    def __init__(self, config: SymphoniesConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(SymphoniesDecoderLayer(config, layer) for layer in range(config.layers))
        self.aspp_after = config.layers - 1 if config.aspp_after is None else config.aspp_after
        if self.aspp_after < max(config.layers, 1):
            self.aspp = ASPP(config.features, config.aspp_dilations, activation_checkpointing=config.activation_checkpointing)

    def forward(self, lifted: Lifted, batch: Batch, every: bool = False) -> list[Tensor]:
        """The volume (B, C, X, Y, Z) after the last layer, or after `every` one; where there are none, the lifted one after the ASPP."""
        assert lifted.volume is not None
        volume, recompute = lifted.volume, self.config.activation_checkpointing
        if not self.layers:
            return [self._with_context(volume) if self.aspp_after < 1 else volume]
        sight, kept = look(batch, self.config), []
        frames = surroundings(lifted, sight, _MAP_STRIDES, self.config)
        scenes = list(volume.flatten(2).transpose(1, 2))
        del volume
        instances = [None] * len(frames) if lifted.queries is None else list(lifted.queries.split(1))
        for index, layer in enumerate(self.layers):
            for frame, around in enumerate(frames):
                scenes[frame], instances[frame] = run(layer, scenes[frame], instances[frame], around, recompute=recompute)
            if not every and index not in (self.aspp_after, len(self.layers) - 1):
                continue
            after = torch.stack(scenes).transpose(1, 2).unflatten(2, sight.shape)
            if index == self.aspp_after:
                after = self._with_context(after)
                scenes = list(after.flatten(2).transpose(1, 2))
            kept.append(after)
        return kept if every else kept[-1:]

    def _with_context(self, volume: Tensor) -> Tensor:
        volume = volume.contiguous()
        if may_stream(self, volume):
            return gather(self.aspp.stream(cut(volume, self.slab)), volume.shape[2])
        found: Tensor = self.aspp(volume)
        return found


class SegmentationHead(nn.Module):
    """Transposed convolutions to the output's grid, then a class for every voxel (section 3.1); in eval in slabs, so that the enlarged volume
    (1 GiB at full size) is never held. `slab` is how many slices of the input a slab has."""

    slab = 4

    def __init__(self, config: SymphoniesConfig) -> None:
        super().__init__()
        self.activation_checkpointing = config.activation_checkpointing
        self.factor = config.factors[0]
        x, y, z = (config.height_factor if axis == config.up else 1 for axis in range(3))
        strides = ([(x, y, z)] if config.height_factor > 1 else []) + [(2, 2, 2)] * (config.lift_factor.bit_length() - 1)
        self.up: Sequence[Upsample] = nn.ModuleList(  # type: ignore[assignment]
            Upsample(config.features, config.features, strides=s) for s in strides
        )
        self.classify = nn.Conv3d(config.features, config.classes, 1)

    def forward(self, volume: Tensor) -> Tensor:
        """(B, C, x, y, z) to logits (B, K, X, Y, Z)."""
        if may_stream(self, volume):
            slabs = cut(volume, self.slab)
            for up in self.up[:-1]:
                slabs = up.stream(slabs)
            slabs = self.up[-1].stream(slabs, self.classify) if self.up else each(self.classify, slabs)
            return gather(slabs, volume.shape[2] * self.factor)
        for up in self.up:
            volume = run(up, volume, recompute=self.activation_checkpointing)
        logits: Tensor = self.classify(volume)
        return logits


class InstanceCompletion(Half3D):
    """Decoder layers and head.

    Attributes:
        auxiliary: whether the head answers after every layer in eval too.
    """

    def __init__(self, config: SymphoniesConfig) -> None:
        """
        Raises:
            InputError: sizes that do not fit together.
        """
        super().__init__()
        config.check()
        self.config = config
        self.width = config.features
        self.factor = config.lift_factor if config.height_factor == 1 else config.factors  # type: ignore[assignment]  # one number an axis where they differ
        wants = {"pyramids", "queries", "extras.places"} if config.has_instances else set()
        wants |= {"extras.positions"} if config.layers > 0 and config.has_positions else set()
        self.reads = frozenset(wants)  # type: ignore[misc]  # depends on the configuration
        self.auxiliary = False
        self.volume_net = SerialAttentions(config)
        self.head = SegmentationHead(config)

    def forward(self, lifted: Lifted, batch: Batch) -> Completed:
        """Logits (B, K, X, Y, Z); `auxiliary` holds "layer0", ... of all layers but the last, in training or in eval on request.

        Raises:
            InputError: a batch on a grid of another shape than the configured one.
        """
        check_grid(batch, self.config.grid.shape)
        *earlier, volume = self.volume_net(lifted, batch, self.training or self.auxiliary)
        auxiliary = {f"layer{layer}": self._as_seen(self.head(one), batch) for layer, one in enumerate(earlier)}
        logits = self._as_seen(self.head(volume), batch)
        return Completed(volume, lifted.grid, logits, auxiliary)

    def _as_seen(self, logits: Tensor, batch: Batch) -> Tensor:
        """Logits on the batch's grid: those of a scene that was mirrored with its picture are mirrored back."""
        if not self.config.mirrored_scene:
            return logits
        return mirrored_back(logits, mirrored_frames(batch), batch.grids[0].left)

    def losses(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """The terms of section 3.4, and the frustum proportion where configured; those of the earlier layers carry the layer's name and weigh
        `auxiliary_weight`.

        Raises:
            InputError: a batch without targets.
        """
        config = self.config
        final, target = answer_and_target(prediction, batch)
        ids, count = (self._frustums(batch), config.frustum_divisions**2) if config.frustum else (None, 0)
        weights = torch.tensor(config.weights_of_classes(), device=final.device)
        terms: dict[str, Tensor] = {}
        for name, logits in {"": final, **prediction.auxiliary}.items():
            sums = VoxelSums.of(logits, target, ids, count)
            found = {
                "cross_entropy": losses.cross_entropy(sums, weights),
                "semantic_affinity": losses.semantic_affinity(sums),
                "geometric_affinity": losses.geometric_affinity(sums),
            }
            if config.frustum:
                found["frustum_proportion"] = losses.frustum_proportion(sums)
            terms |= {f"{name}_{term}": config.auxiliary_weight * value for term, value in found.items()} if name else found
        return terms

    def _frustums(self, batch: Batch) -> Tensor:
        """(B, X * Y * Z) the frustum of each voxel, -1 out of view."""
        config, seen = self.config, with_cameras_unmirrored(batch) if self.config.mirrored_scene else batch
        rounding: Rounding = "float64" if config.projection == "centre" else "released-kitti"
        table = project_batch(seen, 1, rounding, config.use_offset)
        sizes = [camera.size for camera in batch.cameras["main"]]
        views = zip(table.pixels, table.in_view, sizes, strict=True)
        ids = torch.stack([frustum_ids(pixels, in_view, size, config.frustum_divisions) for pixels, in_view, size in views])
        if not config.mirrored_scene:
            return ids
        return mirrored_back(ids.unflatten(1, config.grid.shape), mirrored_frames(batch), batch.grids[0].left).flatten(1)
