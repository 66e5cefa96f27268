"""ISO's metric depth network as a source of depth for other systems."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wholescene.camera import Camera
from wholescene.checkpoints import native
from wholescene.depth.sources import depth_source, with_depth
from wholescene.errors import InputError
from wholescene.grid import GridPlacement
from wholescene.structures import Frame, View
from wholescene.systems import create
from wholescene.systems.iso.config import ISOConfig

ROOM = GridPlacement((12, 8, 20), (0.4, 0.4, 0.3), "xzy", (0.0, 0.0, -0.05), None, "nyuv2")


def saved(path: Path, network: str) -> Any:
    torch.manual_seed(0)
    system: Any = create("iso", ISOConfig.preset("clean", "tiny", grid=ROOM, depth_network=network))
    native.save(path, system)
    return system


def frame() -> Frame:
    camera = Camera.from_fov(70, (96, 64)).on_ground(1.2, 10)
    picture = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    return Frame("a room", {"main": View(picture, camera)}, ROOM.place(camera, 1.2))


def test_the_network_of_a_weights_file_gives_any_frame_its_depth(tmp_path: Path) -> None:
    network = saved(tmp_path / "iso.safetensors", "tiny").half_2d.metric_depth
    network.load_state_dict(network.state_dict())
    source = depth_source(f"iso:{tmp_path / 'iso.safetensors'}")
    found = with_depth(frame(), source)
    expected = network.predict(frame().main.picture)
    assert np.allclose(found.depth, np.where(expected > 0, expected, 0), rtol=1e-5)
    assert source.identity.startswith(f"iso {tmp_path / 'iso.safetensors'}, ")
    assert not source.needs


def test_weights_without_the_network_are_refused(tmp_path: Path) -> None:
    saved(tmp_path / "without.safetensors", "")
    with pytest.raises(InputError, match="holds no metric depth network"):
        depth_source(f"iso:{tmp_path / 'without.safetensors'}")(frame())
    with pytest.raises(InputError, match="does not exist"):
        depth_source("iso:nowhere.safetensors")(frame())
