"""Where an instance query looks, in the picture and in the scene (figure 5 of the paper)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wholescene.errors import InputError
from wholescene.structures import Batch
from wholescene.systems.symphonies.completion import InstanceCompletion
from wholescene.systems.symphonies.decoder import SymphoniesDecoderLayer
from wholescene.systems.symphonies.model import Symphonies
from wholescene.systems.symphonies.sight import look

_PART = 8192  # voxels at a time: the attention of all to all queries is not held


@dataclass(frozen=True)
class InstanceLook:
    """What one instance query looks at in one layer, of one frame.

    Attributes:
        query, layer: their numbers, from 0.
        point: (u, v) pixel that the query belongs to.
        pixels: (n, 2) float pixels that its heads read, on all maps.
        pixel_weights: (n,) how much each counts; they sum to the number of heads.
        voxels: (m, 3) float places that it reads in the scene, in voxels of the scene's grid (the centre of voxel i is i + 0.5); empty in the
            last layer, where it reads the scene squeezed into a map, and where its pixel has no depth and so shows it no place.
        voxel_weights: (m,) how much each counts.
        heard: (X, Y, Z) float32, how much attention each voxel of the scene pays to the query, 0 out of view; of all queries together it is 1.
        labels: (X, Y, Z) uint8, the predicted class of each voxel of the output grid.
    """

    query: int
    layer: int
    point: tuple[float, float]
    pixels: NDArray[np.float32]
    pixel_weights: NDArray[np.float32]
    voxels: NDArray[np.float32]
    voxel_weights: NDArray[np.float32]
    heard: NDArray[np.float32]
    labels: NDArray[np.uint8]


def look_of(system: Symphonies, batch: Batch, query: int, layer: int = 0) -> InstanceLook:
    """What an instance query looks at.

    Args:
        system: any Symphonies with instance queries; it is left in eval.
        batch: one frame, prepared.
        query, layer: from 0.

    Raises:
        InputError: no such query or layer, or a configuration without them.
    """
    config = system.config
    if not config.has_instances or not isinstance(system.half_3d, InstanceCompletion):
        raise InputError("this Symphonies was built without instance queries or with another 3D half, so nothing can be shown of them")
    if not 0 <= query < config.queries or not 0 <= layer < config.layers:
        raise InputError(f"no query {query} in layer {layer}; it has queries 0 to {config.queries - 1} and layers 0 to {config.layers - 1}")
    caught: dict[str, tuple[Any, ...]] = {}
    chosen: SymphoniesDecoderLayer = system.eval().half_3d.volume_net.layers[layer]
    handles = [
        part.register_forward_pre_hook(lambda module, given, name=name: caught.setdefault(name, given))
        for name in ("instance_image", "instance_scene")
        if (part := getattr(chosen, name)) is not None
    ]
    spoken = _Spoken(chosen, query)
    try:
        with torch.inference_mode(), spoken:
            logits = system(batch).logits
            pixels, pixel_weights = _on_picture(chosen.instance_image, caught.get("instance_image"), query, system)
            placed = system.config.unknown_pixels == "camera" or _has_depth(system, batch, query)
            voxels, voxel_weights = _in_scene(chosen, caught.get("instance_scene") if placed else None, query)
    finally:
        for handle in handles:
            handle.remove()
    sight = look(batch, config)
    heard = torch.zeros(sight.in_view.shape[1])
    heard[sight.in_view[0].cpu()] = spoken.attention()
    place = system.half_2d.instances.places()[query].detach() * sight.sizes[0, 0] - 0.5
    return InstanceLook(
        query, layer, (float(place[0]), float(place[1])), pixels, pixel_weights, voxels, voxel_weights,
        heard.view(sight.shape).numpy(), logits[0].argmax(0).to(torch.uint8).cpu().numpy(),
    )  # fmt: skip


class _Spoken:
    """While open, keeps how much attention the voxels of a layer pay to one query, part by part as they pass."""

    def __init__(self, layer: SymphoniesDecoderLayer, query: int) -> None:
        assert layer.scene_instance is not None
        self.layer, self.query = layer.scene_instance, query
        self.parts: list[Tensor] = []

    def __enter__(self) -> None:
        self.handle = self.layer.register_forward_pre_hook(self._keep)

    def __exit__(self, *error: object) -> None:
        self.handle.remove()

    def _keep(self, module: Any, given: tuple[Any, ...]) -> None:
        voxels, keys, positions = given
        normed = self.layer.norm1(voxels)
        queries = normed if positions is None else normed + positions
        for some in queries.split(_PART, 1):
            shares = self.layer.attention(some, keys, keys, need_weights=True)[1]  # (1, n, Q), the mean over heads
            self.parts.append(shares[0, :, self.query].cpu())

    def attention(self) -> Tensor:
        """(n,) of the voxels in view."""
        return torch.cat(self.parts)


def _on_picture(part: Any, given: tuple[Any, ...] | None, query: int, system: Symphonies) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(n, 2) pixels that a query reads, and their weights."""
    if part is None or given is None:
        return np.zeros((0, 2), np.float32), np.zeros(0, np.float32)
    tokens, references, _, shapes = given
    locations, weights = part.attention.places(part.norm1(tokens), references, shapes)
    cells = torch.tensor([(w, h) for h, w in shapes], dtype=locations.dtype, device=locations.device)
    strides = torch.tensor(system.half_2d.encoder.strides, dtype=locations.dtype, device=locations.device)
    places = (locations[0, query] * cells[:, None] - 0.5) * strides[:, None, None]
    return places.reshape(-1, 2).cpu().numpy(), weights[0, query].reshape(-1).cpu().numpy()


def _has_depth(system: Symphonies, batch: Batch, query: int) -> bool:
    """Whether the pixel that a query belongs to has a depth."""
    sight = look(batch, system.config)
    return sight.known is not None and bool(sight.known_at(system.half_2d.instances.places()[None])[0, query])


def _in_scene(layer: SymphoniesDecoderLayer, given: tuple[Any, ...] | None, query: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(m, 3) places in voxels of the scene that a query reads, and their weights."""
    part = layer.instance_scene
    if part is None or given is None or layer.layout.axes == 2:
        return np.zeros((0, 3), np.float32), np.zeros(0, np.float32)
    tokens, references, _, shapes = given
    locations, weights = part.attention.places(part.norm1(tokens), references, shapes)
    places = locations[0, query].flip(-1) * torch.tensor(shapes[0], dtype=locations.dtype, device=locations.device)
    return places.reshape(-1, 3).cpu().numpy(), weights[0, query].reshape(-1).cpu().numpy()
