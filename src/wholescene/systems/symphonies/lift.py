"""Symphonies' 2D half: picture -> three maps; depth -> proposed voxels, which look at the maps; instance queries (sections 3.1 and 3.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from wholescene.geometry.selecting import indices_of
from wholescene.layers.checkpoint import run
from wholescene.layers.deformable_attention import DeformableAttention
from wholescene.layers.flosp import FLoSP
from wholescene.structures import Batch, Lifted
from wholescene.systems.base import normalise
from wholescene.systems.halves import Half2D
from wholescene.systems.symphonies.attentions import DeformableLayer
from wholescene.systems.symphonies.config import SymphoniesConfig
from wholescene.systems.symphonies.pixel_decoder import InstanceAwareEncoder
from wholescene.systems.symphonies.sight import Sight, look, on_maps


class PictureEncoder(nn.Module):
    """The Instance-Aware Image Encoder, and three maps of one width made from it.

    Attributes:
        strides: picture pixels a cell of the maps, finest first.
    """

    def __init__(self, config: SymphoniesConfig) -> None:
        super().__init__()
        width = config.features
        self.trunk = InstanceAwareEncoder(config)
        self.strides = self.trunk.strides
        self.projections = nn.ModuleList(
            nn.Sequential(nn.Conv2d(w, width, 1), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 1)) for w in self.trunk.widths
        )

    def forward(self, picture: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised to (B, features, ceil(H / s), ceil(W / s)) for the strides s of 4, 8 and 16."""
        return [project(m) for project, m in zip(self.projections, self.trunk(picture), strict=True)]


class InstanceQueries(nn.Module):
    """Learned queries, the same for every picture, each with a place in it that is learned too."""

    def __init__(self, count: int, width: int, *, moves: bool) -> None:
        """
        Args:
            count: Q.
            width: channels.
            moves: whether anything tells the places where to go; only what they read of the picture does.
        """
        super().__init__()
        self.queries = nn.Parameter(torch.randn(count, width))
        self.points = nn.Parameter(torch.randn(count, 2), requires_grad=moves)

    def places(self) -> Tensor:
        """(Q, 2) in 0..1 of the picture's width and height."""
        return self.points.sigmoid()


class ScenePositions(nn.Module):
    """Learned positions of the scene's voxels: a table an axis, projected together."""

    def __init__(self, config: SymphoniesConfig) -> None:
        super().__init__()
        self.shape, self.up, self.kind = config.scene_shape, config.up, config.positions
        first, second = (axis for axis in range(3) if axis != self.up)
        self.order = (first, second, self.up)
        sizes = [self.shape[axis] for axis in self.order]
        if self.kind == "released":
            sizes = [2 * sizes[0], 2 * sizes[1], sizes[2] // 4]
        half = config.features // 2
        self.tables: Sequence[nn.Embedding] = nn.ModuleList(nn.Embedding(n, half) for n in sizes)  # type: ignore[assignment]
        self.project = nn.Linear(3 * half, config.features)

    def forward(self) -> Tensor:
        """(N, features), voxels in C order. The projection acts on each table before their rows are combined, which gives the same sums."""
        weights = self.project.weight.chunk(3, 1)
        x, y, z = (nn.functional.linear(t.weight, w) for t, w in zip(self.tables, weights, strict=True))
        if self.kind == "released":  # the voxel at height 4a + 2b + c takes row 2x + b of the first table, 2y + c of the second, a of the third
            x, y = (t.unflatten(0, (-1, 2)) for t in (x, y))
            made = x[:, None, None, :, None] + y[None, :, None, None, :] + z[None, None, :, None, None]
            made = made.flatten(2, 4)
        else:
            made = x[:, None, None] + y[None, :, None] + z[None, None]
        made = made + self.project.bias
        return made.movedim((0, 1, 2), self.order).flatten(0, 2)


class DepthRectifiedVoxelProposal(nn.Module):
    """The Depth-Rectified Voxel Proposal Layer (section 3.2): one learned query a voxel; those on the implicit surface, which depth proposes, look at
    the picture around their own pixel (equation 4)."""

    def __init__(self, config: SymphoniesConfig) -> None:
        super().__init__()
        width = config.features
        self.activation_checkpointing = config.activation_checkpointing
        self.alignment = config.pixel_alignment
        self.scene = nn.Parameter(torch.randn(math.prod(config.scene_shape), width))
        attention = DeformableAttention(width, heads=config.heads, levels=3, points=config.points)
        self.attend = DeformableLayer(attention, width, config.feedforward, config.dropout, doubled_residual=config.doubled_residual)

    def forward(self, maps: list[Tensor], strides: tuple[int, ...], sight: Sight, positions: Tensor) -> Tensor:
        """
        Args:
            maps: (B, C, h, w) a level.
            strides: of the maps.
            sight: where voxels fall, and which are proposed.
            positions: (N, C).

        Returns:
            (B, C, X, Y, Z).
        """
        shapes = [m.shape[-2:] for m in maps]
        cells = torch.cat([m.flatten(2).transpose(1, 2) for m in maps], 1)
        samples = []
        for one, pixels, size, proposed in zip(cells.split(1), sight.pixels.split(1), sight.sizes.split(1), sight.proposed(), strict=True):
            chosen = indices_of(proposed)
            references = on_maps(pixels[:, chosen], size, strides, shapes, self.alignment).to(one.dtype)
            given = self.scene[chosen][None], references, self.attend.attention.project(one), shapes, positions[chosen][None]
            seen = run(self.attend, *given, recompute=self.activation_checkpointing)
            samples.append(self.scene.index_copy(0, chosen, seen[0].to(self.scene.dtype)))
        return torch.stack(samples).transpose(1, 2).unflatten(2, sight.shape)


class LineOfSight(nn.Module):
    """The baseline of Tables 3 and 5: every voxel in view holds the sum of the maps at its pixel, whatever its depth (MonoScene's FLoSP)."""

    def __init__(self) -> None:
        super().__init__()
        self.flosp = FLoSP()

    def forward(self, maps: list[Tensor], strides: tuple[int, ...], sight: Sight, positions: Tensor | None = None) -> Tensor:
        """Arguments as those of the proposals, (B, C, X, Y, Z); where a voxel is counts for nothing here."""
        inside = torch.minimum(sight.pixels.round().clamp(min=0), sight.sizes - 1).long()
        return self.flosp(dict(zip(strides, maps, strict=True)), inside, sight.in_view, sight.shape)


class InstanceLift(Half2D):
    """Encoder, instance queries, and the scene as depth first shows it."""

    gives = frozenset({"pyramids", "queries", "extras.places", "extras.positions"})
    shared = frozenset({"places", "positions"})

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
        self.encoder = PictureEncoder(config)
        if config.has_positions:
            self.positions = ScenePositions(config)
        if config.has_instances:
            self.instances = InstanceQueries(config.queries, config.features, moves=config.builds("instance-image", 0))
        self.lift = DepthRectifiedVoxelProposal(config) if config.lifting == "proposals" else LineOfSight()

    @property
    def needs(self) -> frozenset[str]:
        """Depth, unless nothing asks for it."""
        return frozenset({"depth"} if self.config.needs_depth else ())

    def forward(self, batch: Batch) -> Lifted:
        """The volume (B, features, X, Y, Z) on the scene's grid; `queries` (B, Q, features); `extras` hold their `places` (Q, 2) in 0..1 of the
        picture, and the `positions` (N, features) of the voxels.

        Raises:
            InputError: no depth where it is needed.
        """
        config, extras = self.config, {}
        sight = look(batch, config)
        maps = self.encoder(normalise(batch.pictures["main"], config.preparation))
        if config.has_positions:
            extras["positions"] = self.positions()
        volume = self.lift(maps, self.encoder.strides, sight, extras.get("positions"))
        queries = None
        if config.has_instances:
            queries = self.instances.queries.expand(len(batch), -1, -1)
            extras["places"] = self.instances.places()
        grids = tuple(grid.coarser(config.factors) for grid in batch.grids)
        return Lifted(volume, grids, {"picture": maps}, batch.depth, queries=queries, extras=extras)
