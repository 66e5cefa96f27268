"""What the camera saw of a scene, for the eye: which voxels it saw, which stand behind something, which lie outside its picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wholescene.camera import Camera
from wholescene.grid import VoxelGrid
from wholescene.scene import Scene
from wholescene.view.faces import Faces, back_to_front, exposed_faces, in_world, normals
from wholescene.view.raster import paint

OUT_OF_VIEW, SEEN, HIDDEN = 0, 1, 2
_WIDE = 1400  # pixels across of the picture in which faces are compared, whatever the photo has


def sight(scene: Scene) -> NDArray[np.uint8] | None:
    """(X, Y, Z) uint8 state of each occupied voxel: out of view (0), seen (1), hidden behind something (2); None without a posed camera.

    A voxel is seen if the picture holds its centre and nothing stands between the camera and the middle of one of its exposed faces. (Lines
    to centres, which scores use, would call a flat road hidden: at a grazing angle they pass through its own nearer voxels.)
    """
    camera, grid = scene.camera, scene.grid
    if camera is None or not camera.pose_known:
        return None
    state = np.zeros(grid.shape, np.uint8)
    solid = scene.occupied
    index = np.argwhere(solid)
    inside = index[camera.sees(in_world(index + 0.5, grid))]
    state[tuple(inside.T)] = HIDDEN
    faces = clear_faces(solid, camera, grid)
    seen = faces.voxels[state[tuple(faces.voxels.T)] == HIDDEN]
    state[tuple(seen.T)] = SEEN
    return state


def clear_faces(solid: NDArray[np.bool_], camera: Camera, grid: VoxelGrid) -> Faces:
    """The exposed faces in the picture whose middle the camera sees.

    All faces are painted as the camera sees them; then, along the line to a face's middle, the plane of whatever face was painted there must not
    lie nearer than the face itself. Planes are compared instead of painted faces because far, grazed faces are thinner than a pixel.
    """
    faces = back_to_front(exposed_faces(solid), grid, camera.position)
    quads, depth = camera.project(faces.corners(grid))
    before = depth.min(1) > 0.05
    faces, quads = faces[before], quads[before]
    zoom = _WIDE / camera.width
    size = (_WIDE, max(1, round(camera.height * zoom)))
    painted = paint((quads + 0.5) * zoom, size)
    middle = in_world(faces.lattice().mean(1), grid)
    at = np.floor((camera.project(middle)[0] + 0.5) * zoom).astype(np.int64)
    inside = np.flatnonzero(((at >= 0) & (at < size)).all(1))
    owner = painted[at[inside, 1], at[inside, 0]]
    outward = normals(grid)[faces.directions[owner]]
    ray = middle[inside] - camera.position
    with np.errstate(divide="ignore", invalid="ignore"):
        reached = ((middle[owner] - camera.position) * outward).sum(1) / (ray * outward).sum(1)  # 1 is the face's own distance
    slack = 0.5 * min(grid.voxel_size) / np.linalg.norm(ray, axis=1)
    return faces[inside[(owner < 0) | ~(reached < 1 - slack)]]
