"""When the camera of a scene sees a thing, by geometry alone, so that it is the same on every machine.

The turn is looked at in `STEPS` steps, finer than any video of it. Two careful statements are made of each step and
thing: that it may show, if only by a pixel, and that it is seen, most of it and not behind something else. The
questions rely on a thing only where one of them is certain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.suites.vsi_bench.scene import ASPECT, CAMERA_TILT, FIELD_OF_VIEW, Scene, Thing, Vector

STEPS = 72
#: A video has at least so many frames, so that one of them falls into every `STRIDE` steps.
LEAST_FRAMES = 8
STRIDE = STEPS // LEAST_FRAMES
#: Of a thing, to be seen.
_SHARE = 0.6
#: Of a thing about its center, to be sure that nothing of it shows.
_MARGIN = 1.15


@dataclass(frozen=True)
class Appearance:
    """When a thing comes into sight, in steps.

    Attributes:
        first: no pixel shows before.
        certain: from here on it is seen for more than `STRIDE` steps, so that every video has a frame of it by then.
    """

    first: int
    certain: int


def appearances(scene: Scene) -> list[Appearance] | None:
    """When each thing comes into sight; None where a video could miss one of them."""
    cameras = [scene.camera(step / STEPS) for step in range(STEPS)]
    eyes = np.stack([eye for eye, _ in cameras])
    axes = np.stack([_axes(heading) for _, heading in cameras])
    found = []
    for thing in scene.things:
        seen = _share_seen(eyes, axes, thing, scene) >= _SHARE
        long_enough = np.lib.stride_tricks.sliding_window_view(seen, STRIDE + 1).all(1)
        if not long_enough.any():
            return None
        may_show = _in_frame(eyes, axes, _grid(thing, _MARGIN)).any(1)
        found.append(Appearance(int(may_show.argmax()), int(long_enough.argmax())))
    return found


def sightings(scene: Scene, share: float) -> list[tuple[Thing, float, float]]:
    """The things that are seen when the camera has done this share of its turn.

    Returns:
        Each with the place of its center in the frame, from the left and from the top, as shares of width and height.
    """
    eye, heading = scene.camera(share)
    axes = _axes(heading)
    found = []
    for thing in scene.things:
        right, up, forward = axes @ ((thing.low + thing.high) / 2 - eye)
        limit = math.tan(FIELD_OF_VIEW / 2) * forward
        if _share_seen(eye[None], axes[None], thing, scene)[0] >= _SHARE and limit > 0:
            found.append((thing, float(1 + right / (ASPECT * limit)) / 2, float(1 - up / limit) / 2))
    return found


def _axes(heading: float) -> Vector:
    """Right, up and forward of a camera, (3, 3)."""
    level = np.array([math.cos(heading), 0.0, -math.sin(heading)])
    right = np.array([math.sin(heading), 0.0, math.cos(heading)])
    up = np.array([0.0, 1.0, 0.0])
    return np.stack(
        [
            right,
            up * math.cos(CAMERA_TILT) + level * math.sin(CAMERA_TILT),
            level * math.cos(CAMERA_TILT) - up * math.sin(CAMERA_TILT),
        ]
    )


def _grid(thing: Thing, scale: float) -> Vector:
    """27 points of the bounding box, scaled about its center, (27, 3)."""
    thirds = np.stack(np.meshgrid([-0.5, 0, 0.5], [-0.5, 0, 0.5], [-0.5, 0, 0.5]), -1).reshape(-1, 3)
    return (thing.low + thing.high) / 2 + thirds * np.array(thing.size) * scale


def _in_frame(eyes: Vector, axes: Vector, points: Vector) -> NDArray[np.bool_]:
    """Whether each camera has each point before it and within its frame, (T, P)."""
    right, up, forward = np.moveaxis(np.einsum("tij,tpj->tpi", axes, points - eyes[:, None]), -1, 0)
    limit = np.tan(FIELD_OF_VIEW / 2) * forward
    return (forward > 0) & (np.abs(up) <= limit) & (np.abs(right) <= ASPECT * limit)


def _share_seen(eyes: Vector, axes: Vector, thing: Thing, scene: Scene) -> Vector:
    """The share of a thing's points that each camera has in its frame and not behind another thing, (T,)."""
    points = _grid(thing, 1.0)
    seen = _in_frame(eyes, axes, points)
    for other in scene.things:
        if other is not thing:
            seen &= ~_hidden(eyes, points, other)
    return seen.mean(1)


def _hidden(eyes: Vector, points: Vector, other: Thing) -> NDArray[np.bool_]:
    """Whether the way from each eye to each point goes through the bounding box of `other`, (T, P)."""
    # Coordinates come first: numpy is slow where it reduces a last axis of three.
    ways = points.T[:, None] - eyes.T[:, :, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        near, far = ((corner - eyes).T[:, :, None] / ways for corner in (other.low, other.high))
    enter, leave = np.minimum(near, far).max(0), np.maximum(near, far).min(0)
    return (enter <= leave) & (leave > 0) & (enter < 1)
