"""The video of a synthetic scene, drawn by MiniWorld without a display.

Importing this module sets pyglet's headless mode, which has to happen before miniworld is imported.
"""

from __future__ import annotations

import contextlib
import io
import math
from functools import lru_cache
from typing import Any

import numpy as np
import pyglet

from benchmarks.suites.vsi_bench.scene import CAMERA_HEIGHT, CAMERA_TILT, FIELD_OF_VIEW, Scene, Thing
from benchmarks.suites.vsi_bench.visibility import LEAST_FRAMES
from envs.base import decode_textures_with_pillow, opengl_error
from vldac.models.conversation import Image

pyglet.options["headless"] = True

try:
    from miniworld.entity import Ball, Box
    from miniworld.miniworld import MiniWorldEnv
    from pyglet import gl
except ModuleNotFoundError:
    raise
except Exception as error:
    if (without_opengl := opengl_error(error)) is None:
        raise
    raise without_opengl from error

decode_textures_with_pillow()


def render(scene: Scene, frames: int, width: int, height: int) -> tuple[Image, ...]:
    """One turn of the scene's camera, in evenly spaced frames.

    Args:
        scene: what is to be seen.
        frames: at least `LEAST_FRAMES`: fewer could miss things that are asked about.
        width: of a frame, in pixels.
        height: of a frame, in pixels, 3/4 of its width.

    Returns:
        `frames` arrays (height, width, 3) uint8.

    Raises:
        ValueError: too few frames.
        SimulatorError: OpenGL cannot be used on this machine.
    """
    if frames < LEAST_FRAMES:
        raise ValueError(f"a turn takes at least {LEAST_FRAMES} frames, not {frames}")
    simulator = _simulator(width, height)
    simulator.show(scene)
    return tuple(simulator.look(scene, index / frames) for index in range(frames))


@lru_cache(maxsize=2)
def _simulator(width: int, height: int) -> _Scenery:
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints the number of samples that the driver allows
            return _Scenery(obs_width=width, obs_height=height, window_width=width, window_height=height)
    except Exception as error:
        if (without_opengl := opengl_error(error)) is None:
            raise
        raise without_opengl from error


class _Scenery(MiniWorldEnv):
    """A MiniWorld room that holds what a scene holds."""

    _scene = Scene(6.0, 6.0, (), 0.0, 1)

    def show(self, scene: Scene) -> None:
        """Furnishes the room anew."""
        self._scene = scene
        self.reset()

    def look(self, scene: Scene, share: float) -> Image:
        """What the camera sees when it has done this share of its turn."""
        eye, heading = scene.camera(share)
        self.agent.pos, self.agent.dir = eye - [0.0, CAMERA_HEIGHT, 0.0], heading
        self.agent.cam_height, self.agent.cam_fwd_disp = CAMERA_HEIGHT, 0.0
        self.agent.cam_pitch, self.agent.cam_fov_y = -math.degrees(CAMERA_TILT), math.degrees(FIELD_OF_VIEW)
        return np.asarray(self.render_obs()).copy()

    def _gen_world(self) -> None:
        half_x, half_z = self._scene.width / 2, self._scene.depth / 2
        self.add_rect_room(-half_x, half_x, -half_z, half_z, wall_tex="stucco", floor_tex="wood_planks")
        for thing in self._scene.things:
            self.place_entity(_entity(thing), pos=np.array([thing.x, 0.0, thing.z]), dir=0.0)
        self.place_agent(pos=np.zeros(3), dir=0.0)

    # Several simulators share the display lists of a process, and the package compiles every room into list 1: rooms
    # with four walls are drawn as they are instead.
    def _render_static(self) -> None:
        pass

    def _render_world(self, frame_buffer: Any, render_agent: bool) -> Image:
        for name, value in (
            (gl.GL_POSITION, [0.5, 1.0, 0.8, 0.0]),  # a direction, so that the sides of a box differ
            (gl.GL_AMBIENT, [0.3, 0.3, 0.3, 1.0]),
            (gl.GL_DIFFUSE, [0.6, 0.6, 0.6, 1.0]),
        ):
            gl.glLightfv(gl.GL_LIGHT0, name, (gl.GLfloat * 4)(*value))
        gl.glEnable(gl.GL_LIGHTING)
        gl.glEnable(gl.GL_LIGHT0)
        gl.glShadeModel(gl.GL_SMOOTH)
        gl.glEnable(gl.GL_COLOR_MATERIAL)
        gl.glColorMaterial(gl.GL_FRONT_AND_BACK, gl.GL_AMBIENT_AND_DIFFUSE)
        gl.glEnable(gl.GL_TEXTURE_2D)
        for room in self.rooms:
            room._render()
        for entity in self.entities:
            if entity is not self.agent:
                entity.render()
        return frame_buffer.resolve()


def _entity(thing: Thing) -> Any:
    return Ball(thing.color, thing.size[1]) if thing.shape == "ball" else Box(thing.color, list(thing.size))
