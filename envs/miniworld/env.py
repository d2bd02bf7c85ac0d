"""The 23 first-person environments of MiniWorld (Farama-Foundation/Miniworld), drawn without a display.

Importing this module sets pyglet's headless mode, which has to happen before miniworld is imported.
"""

from __future__ import annotations

import contextlib
import io
from functools import cache
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pyglet
from numpy.typing import NDArray

from envs.base import (
    Env,
    Mark,
    Observation,
    PromptStyle,
    decode_textures_with_pillow,
    match_action,
    observation_space,
    opengl_error,
)
from envs.miniworld.tasks import ACTION_NAMES, SIGN_ACTION_NAMES, TASKS, instruction, prompt

pyglet.options["headless"] = True

try:
    from miniworld import envs as simulators
    from miniworld.miniworld import MiniWorldEnv
    from pyglet import gl

    from envs.miniworld import geometry
except ModuleNotFoundError:
    raise
except Exception as error:
    if (without_opengl := opengl_error(error)) is None:
        raise
    raise without_opengl from error

decode_textures_with_pillow()

#: Not one of `MiniWorldEnv.Actions`: with it, `step` of every environment lets time pass and moves nothing.
_NO_ACTION = -1
#: RoomObjects has no limit of its own; it gets the one of ThreeRooms, the other environment without a reward.
_ROOM_OBJECTS_STEPS = 400


class MiniWorld(Env):
    """One MiniWorld simulator behind the interface of `Env`.

    Observations: one frame (1, height, width, 3) uint8 of the agent's camera, and the prompt.

    Actions: the environment's own `Discrete` space. Navigation environments have turn left, turn right and move
    forward; Sign has a fourth that ends the episode, PickupObjects has five (also move back and pick up), and
    CollectHealth, PutNext and RoomObjects have all eight.

    Rewards: the environment's own. For environments with one goal that is 1 - 0.2 * steps / limit at the goal and 0
    elsewhere; Sign gives +1 or -1 on touching an object, PickupObjects +1 an object, CollectHealth +2 a step and -100
    at death, RoomObjects and ThreeRooms nothing.

    `step(None)` counts as a step and moves nothing; its reward is `invalid_reward`. Health still falls in
    CollectHealth. A goal cannot be reached by it, not even by an agent that the environment has put beside the goal.

    Episodes end at the environment's own goal or failure (terminated) or at its step limit (truncated, unless the last
    permitted step ended it). Success is termination with a positive reward: the box or the right object is reached,
    both boxes stand together, everything is picked up. Leaving the sidewalk, touching a wrong object and the action
    "end" are no success. CollectHealth succeeds by being alive at the limit; RoomObjects and ThreeRooms never do.

    Args:
        env_id: "MiniWorld-NAME-v0".
        width: of a frame, in pixels.
        height: of a frame, in pixels.
        prompt_style: see `Env`.
        invalid_reward: see `Env`.

    Raises:
        ValueError: the package has no such environment.
        SimulatorError: OpenGL cannot be used on this machine.
    """

    default_invalid_reward: ClassVar[float] = -0.1

    def __init__(
        self,
        env_id: str,
        *,
        width: int = 80,
        height: int = 60,
        prompt_style: PromptStyle = "full",
        invalid_reward: float | None = None,
    ) -> None:
        super().__init__(prompt_style=prompt_style, invalid_reward=invalid_reward)
        self.name = env_id.removeprefix("MiniWorld-").removesuffix("-v0")
        if self.name not in TASKS or env_id != f"MiniWorld-{self.name}-v0":
            raise ValueError(f"{env_id!r} is not a MiniWorld environment; the names are {', '.join(sorted(TASKS))}")
        self._sim: Any = _make_simulator(self.name, width, height)
        self.action_space: gym.spaces.Discrete = gym.spaces.Discrete(int(self._sim.action_space.n))
        self.observation_space = observation_space(1, height, width)
        names = SIGN_ACTION_NAMES if self.name == "Sign" else ACTION_NAMES
        self._action_names = names[prompt_style][: self.action_space.n]
        shape = ("box", "key")[self._sim._goal] if self.name == "Sign" else ""
        self._instruction = instruction(prompt_style, TASKS[self.name], shape)
        self._prompt = prompt(prompt_style, self._instruction, self._action_names)
        self._frame: NDArray[np.uint8] = np.zeros((height, width, 3), np.uint8)

    @property
    def instruction(self) -> str:
        """See `Env`."""
        return self._instruction

    @property
    def action_names(self) -> tuple[str, ...]:
        """See `Env`."""
        return self._action_names

    def parse_action(self, text: str) -> int | None:
        """The index of the action that `text` names, ignoring case and spacing, or None."""
        return match_action(text, self._action_names)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Starts an episode; with a seed it is the one that the bare MiniWorld environment starts with that seed."""
        super().reset(seed=seed)
        observation, _ = self._sim.reset(seed=seed)
        self._frame = self._picture(observation)
        return self._observation(), {}

    def step(self, action: int | None) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Takes an action of `action_space`, or None for an answer that names none.

        Raises:
            ValueError: `action` is neither None nor in `action_space`.
        """
        if action is not None and not self.action_space.contains(action):
            raise ValueError(f"action {action!r} is not in {self.action_space}")
        invalid = action is None
        observation, reward, terminated, truncated, _ = self._sim.step(_NO_ACTION if action is None else int(action))
        self._frame = self._picture(observation)
        success = bool(terminated) and reward > 0
        if invalid:
            terminated = bool(terminated) and not success
            reward = min(float(reward), self.invalid_reward) if terminated else self.invalid_reward  # a death stays one
            success = False
        truncated = bool(truncated) and not terminated
        info: dict[str, Any] = {"invalid": invalid}
        if terminated or truncated:
            info["success"] = truncated if self.name == "CollectHealth" else success
        return self._observation(), float(reward), bool(terminated), truncated, info

    def render(self) -> NDArray[np.uint8]:
        """The last frame, (height, width, 3) uint8."""
        return self._frame.copy()

    def describe(self) -> str:
        """Where the goal is, such as "the box is left" or "the box is not visible".

        "ahead" means within half a turn of straight on, "left" and "right" beyond that; an object counts as visible
        when any pixel of the picture shows it. Environments with several objects name the nearest visible one.
        """
        carried = self._sim.agent.carrying
        holding = f"holding the {geometry.entity_name(carried)}. " if carried is not None else ""
        for entity in self._targets():
            if geometry.visible(self._sim, entity):
                return f"{holding}the {self._name(entity)} is {geometry.side(self._sim, entity)}"
        if self.name in _ONE_TARGET:
            return f"{holding}the {self._name(self._targets()[0])} is not visible"
        return f"{holding}no {'medkit' if self.name == 'CollectHealth' else 'object'} is visible"

    def marks(self) -> tuple[Mark, ...]:
        """The objects in sight, each at the middle of its visible pixels, such as "red box"."""
        found = []
        for entity in geometry.movable_entities(self._sim):
            rows, columns = geometry.pixels_of(self._sim, entity).nonzero()
            if len(rows):
                height, width = self._frame.shape[:2]
                x, y = (float(columns.mean()) + 0.5) / width, (float(rows.mean()) + 0.5) / height
                found.append(Mark(geometry.entity_name(entity), x, y))
        return tuple(found)

    def expert_action(self) -> str | None:
        """The next move of a short way to the goal, through doors too, with full knowledge of the floor plan.

        Known for every environment that rewards reaching or collecting something. PutNext, RoomObjects and ThreeRooms
        have none.
        """
        targets = self._targets()
        if self.name in ("PutNext", "RoomObjects", "ThreeRooms") or not targets:
            return None
        move = "pickup"
        if self.name not in ("PickupObjects", "CollectHealth") or not geometry.can_pick_up(self._sim):
            forbidden = self._sim.street if self.name == "Sidewalk" else None
            move = geometry.move_towards(self._sim, targets[0], forbidden)
        return self._action_names[int(MiniWorldEnv.Actions[move])]

    def close(self) -> None:
        """Frees the OpenGL context; closing twice is allowed."""
        self._sim.shadow_window.close()

    def _targets(self) -> list[Any]:
        """The entities that matter next for the goal, the most important one first."""
        sim = self._sim
        if self.name == "Sign":
            return [sim._objects[sim._goal][sim._color_index]]
        if self.name == "PutNext":
            return [sim.yellow_box if sim.agent.carrying is sim.red_box else sim.red_box]
        if self.name in _ONE_TARGET:
            return [sim.box]
        return [entity for entity in geometry.movable_entities(sim) if entity is not sim.agent.carrying]

    def _name(self, entity: Any) -> str:
        # An environment with a single box needs no color to tell it from others, and short sentences are cheap to
        # generate.
        one_box = self.name in _ONE_TARGET and entity is getattr(self._sim, "box", None)
        return "box" if one_box else geometry.entity_name(entity)

    def _picture(self, observation: Any) -> NDArray[np.uint8]:
        # Sign wraps its picture in a dictionary together with its goal, which the prompt tells in words.
        return observation["obs"] if isinstance(observation, dict) else observation

    def _observation(self) -> Observation:
        return {"frames": self._frame[None].copy(), "prompt": self._prompt}


#: Environments whose goal is about one object at a time.
_ONE_TARGET = frozenset(TASKS) - {"PickupObjects", "CollectHealth", "RoomObjects", "ThreeRooms"}


class _OwnDisplayList:
    """Keeps the static geometry of each simulator in a display list of its own.

    All OpenGL contexts of a process share their objects, and miniworld 2.1.0 compiles every simulator's rooms into
    display list 1: of several simulators in one process each draws the walls of the one that was reset last (it
    shows in the mazes, which differ from episode to episode). It also compiles in whichever context is current.
    """

    _static_list: int | None = None

    def reset(self: Any, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        self.shadow_window.switch_to()
        return super().reset(**kwargs)  # type: ignore[misc]  # of MiniWorldEnv

    def _render_static(self: Any) -> None:
        if self._static_list is None:
            self._static_list = gl.glGenLists(1)
        gl.glNewList(self._static_list, gl.GL_COMPILE)
        for name, value in (
            # The package adds 1 to each coordinate where it means to append it, which makes the light directional.
            (gl.GL_POSITION, self.light_pos + 1),
            (gl.GL_AMBIENT, self.light_ambient),
            (gl.GL_DIFFUSE, self.light_color),
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
            if entity.is_static:
                entity.render()
        gl.glEndList()

    def _render_world(self: Any, frame_buffer: Any, render_agent: bool) -> NDArray[np.uint8]:
        gl.glCallList(self._static_list)
        for entity in self.entities:
            if not entity.is_static and entity is not self.agent:
                entity.render()
        if render_agent:
            self.agent.render()
        return frame_buffer.resolve()


@cache
def _simulator_class(name: str) -> type:
    return type(name, (_OwnDisplayList, getattr(simulators, name)), {})


def _make_simulator(name: str, width: int, height: int) -> Any:
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints the number of samples that the driver allows
            # The window is what `render` draws into, which `MiniWorld` does not use: the default costs 30 MB.
            simulator = _simulator_class(name)(
                obs_width=width, obs_height=height, window_width=width, window_height=height
            )
    except Exception as error:
        if (without_opengl := opengl_error(error)) is None:
            raise
        raise without_opengl from error
    if name == "RoomObjects":
        simulator.max_episode_steps = _ROOM_OBJECTS_STEPS
    return simulator
