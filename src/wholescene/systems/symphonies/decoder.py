"""Serial Instance-Propagated Attentions (section 3.3): picture to instances to scene; scene to itself and to instances; instances to themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wholescene.geometry.selecting import indices_of
from wholescene.layers.deformable_attention import DeformableAttention
from wholescene.ops.deformable import Shapes
from wholescene.structures import Lifted
from wholescene.systems.symphonies.attentions import DeformableLayer, DenseLayer, SceneLayout
from wholescene.systems.symphonies.config import SymphoniesConfig
from wholescene.systems.symphonies.sight import Sight, on_maps, seats_of, unravelled


@dataclass(frozen=True)
class Surroundings:
    """What the layers read of one frame; nothing in it changes from layer to layer.

    Attributes:
        in_view: (n,) int64, the voxels that attend.
        seats: (n, 3) their shares of the scene along its array axes.
        positions: (n, C) theirs; None where nothing asks.
        cells: (1, S, C) of the picture's maps, one after another.
        shapes: (h, w) of the maps.
        on_maps: (1, Q, L, 2) where the instances stand on the maps.
        in_scene: (1, Q, 3) shares of the scene where they stand in it; None without depth.
        placed: (1, Q, 1) bool, those that stand somewhere in it and so listen to it; None: all.
    """

    in_view: Tensor
    seats: Tensor
    positions: Tensor | None = None
    cells: Tensor | None = None
    shapes: Shapes = ()
    on_maps: Tensor | None = None
    in_scene: Tensor | None = None
    placed: Tensor | None = None


class SymphoniesDecoderLayer(nn.Module):
    """Up to five attentions of one frame's scene and instances, in the paper's order: deformable instance-image cross-attention,
    scene-instance cross-attention, deformable scene self-attention, deformable instance-scene cross-attention, instance self-attention.

    Without gradients, voxels are taken `part` at a time (None: whole).
    """

    part: int | None = 32768

    def __init__(self, config: SymphoniesConfig, layer: int) -> None:
        """
        Args:
            config: says which attentions are built.
            layer: from 0.
        """
        super().__init__()
        width, hidden = config.features, config.feedforward
        self.fresh_values = config.fresh_values
        self.layout = SceneLayout(config.scene_shape, config.up, config.scene_sampling)

        def deformable(to_scene: bool, hidden: int | None) -> DeformableLayer:
            points, levels, axes = (config.scene_points, 1, self.layout.axes) if to_scene else (config.points, 3, 2)
            attention = DeformableAttention(width, heads=config.heads, levels=levels, points=points, axes=axes)
            return DeformableLayer(attention, width, hidden, config.dropout, doubled_residual=config.doubled_residual)

        def dense(hidden: int | None, crosses: bool) -> DenseLayer:
            return DenseLayer(width, config.heads, hidden, crosses=crosses, normalised_keys=config.normalised_keys)

        def has(name: str) -> bool:
            return config.builds(name, layer)

        self.instance_image = deformable(False, hidden) if has("instance-image") else None
        self.scene_instance = dense(None, True) if has("scene-instance") else None
        self.scene_self = deformable(True, hidden) if has("scene-self") else None
        self.instance_scene = deformable(True, None) if has("instance-scene") else None
        self.instance_self = dense(hidden, False) if has("instance-self") else None

    def forward(self, scene: Tensor, instances: Tensor | None, around: Surroundings) -> tuple[Tensor, Tensor | None]:
        """
        Args:
            scene: (N, C) voxels in C order.
            instances: (1, Q, C).
            around: the frame.

        Returns:
            both, changed; voxels out of view stay as they are.
        """
        if self.instance_image is not None:
            assert instances is not None
            assert around.cells is not None
            assert around.on_maps is not None
            projected = self.instance_image.attention.project(around.cells)
            instances = self.instance_image(instances, around.on_maps, projected, around.shapes)
        scene = self._in_view(scene, instances, around)
        if self.instance_scene is not None:
            assert instances is not None
            assert around.in_scene is not None
            values = self._values(self.instance_scene, scene)
            heard = self.instance_scene(instances, self.layout.references(around.in_scene), values, self.layout.shapes)
            instances = heard if around.placed is None else torch.where(around.placed, heard, instances)
        if self.instance_self is not None:
            instances = self.instance_self(instances)
        return scene, instances

    def _in_view(self, scene: Tensor, instances: Tensor | None, around: Surroundings) -> Tensor:
        """Scene-instance and scene self-attention of the voxels in view."""
        speak, mix = self.scene_instance, self.scene_self
        voxels = scene[around.in_view][None]
        values = None if mix is None or self.fresh_values else self._values(mix, scene)
        if speak is not None:
            assert instances is not None
            keys = speak.keys_of(instances)
            voxels = self._by_parts(lambda some: speak(voxels[:, some], keys, _rows(around.positions, some)), voxels)
        if mix is not None:
            values = self._values(mix, scene.index_copy(0, around.in_view, voxels[0])) if values is None else values
            voxels = self._by_parts(lambda some: self._mixed(mix, voxels[:, some], values, around, some), voxels)
        return scene.index_copy(0, around.in_view, voxels[0].to(scene.dtype))

    def _mixed(self, mix: DeformableLayer, voxels: Tensor, values: Tensor, around: Surroundings, some: slice) -> Tensor:
        """Scene self-attention of some of the voxels in view, (1, k, C)."""
        references = self.layout.references(around.seats[some])[None]
        return mix(voxels, references, values, self.layout.shapes, _rows(around.positions, some))

    def _values(self, layer: DeformableLayer, scene: Tensor) -> Tensor:
        return self.layout.arrange(layer.attention.project(scene[None]))

    def _by_parts(self, work: Callable[[slice], Tensor], voxels: Tensor) -> Tensor:
        """`work` of all voxels (1, n, C), by parts where no gradient is recorded."""
        count = voxels.shape[1]
        if self.part is None or torch.is_grad_enabled() or count <= self.part:
            return work(slice(0, count))
        return torch.cat([work(slice(start, start + self.part)) for start in range(0, count, self.part)], 1)


def _rows(table: Tensor | None, some: slice) -> Tensor | None:
    return None if table is None else table[some][None]


def surroundings(lifted: Lifted, sight: Sight, strides: Sequence[int], config: SymphoniesConfig) -> list[Surroundings]:
    """What the layers read, of each frame of a batch."""
    positions, places = lifted.extras.get("positions"), lifted.extras.get("places")
    found = []
    for frame, in_view in enumerate(sight.in_view):
        chosen = indices_of(in_view)
        seats = seats_of(unravelled(chosen, sight.shape), sight.shape, config.voxel_seats)
        own = None if positions is None else positions[chosen]
        if places is None:
            found.append(Surroundings(chosen, seats, own))
            continue
        maps = lifted.maps_of(frame, "picture")
        shapes = [m.shape[-2:] for m in maps]
        cells = torch.cat([m.flatten(2).transpose(1, 2) for m in maps], 1)
        one = sight.of(frame)
        stands = on_maps(places[None] * one.sizes - 0.5, one.sizes, strides, shapes, config.pixel_alignment)
        in_scene = None if one.voxels is None else seats_of(one.voxels_of_points(places[None]), sight.shape, config.voxel_seats)
        placed = None if one.known is None or config.unknown_pixels == "camera" else one.known_at(places[None])[..., None]
        found.append(Surroundings(chosen, seats, own, cells, shapes, stands, in_scene, placed))
    return found
