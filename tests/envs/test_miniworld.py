from __future__ import annotations

import math
import os
import subprocess
import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pyglet
import pytest

from envs.miniworld.env import MiniWorld
from envs.miniworld.tasks import TASKS

WALKING = [
    *("Hallway", "OneRoom", "OneRoomS6", "OneRoomS6Fast", "MazeS2", "MazeS3", "MazeS3Fast", "FourRooms", "WallGap"),
    *("TMaze", "TMazeLeft", "TMazeRight", "YMaze", "YMazeLeft", "YMazeRight", "Sidewalk", "Sign"),
]


def unwrapped(name: str, **options: Any) -> MiniWorld:
    return MiniWorld(f"MiniWorld-{name}-v0", width=64, height=48, prompt_style="terse", **options)


def act(env: MiniWorld, name: str) -> tuple[Any, float, bool, bool, dict[str, Any]]:
    return env.step(env.parse_action(name))


def put(env: MiniWorld, entity: Any, distance: float, degrees: float) -> None:
    """Puts an entity at a distance and an angle (positive: left) of the agent's heading."""
    agent = env._sim.agent
    angle = agent.dir + math.radians(degrees)
    entity.pos = agent.pos + distance * np.array([math.cos(angle), 0, -math.sin(angle)])


@pytest.mark.parametrize("name", ["OneRoomS6Fast", "MazeS3", "TMaze", "Sign", "PickupObjects", "Sidewalk"])
def test_is_the_packages_own_environment(name: str) -> None:
    """Frames, rewards and ends are those of the bare environment, alone in its process as here at its own turn."""
    bare = gym.make(f"MiniWorld-{name}-v0", obs_width=64, obs_height=48).unwrapped
    choose = np.random.default_rng(0)
    for seed in range(3):
        actions = choose.choice([0, 1, 2, 2, 2], size=40)
        expected: list[Any] = [(bare.reset(seed=seed)[0],)]
        for action in actions:
            expected.append(bare.step(int(action))[:4])
            if expected[-1][2] or expected[-1][3]:
                break
        env = unwrapped(name)
        got: list[Any] = [env.reset(seed=seed)[:1]]
        got += [env.step(int(action))[:4] for action in actions[: len(expected) - 1]]
        for (observation, *numbers), (bare_observation, *bare_numbers) in zip(got, expected, strict=True):
            frame = bare_observation["obs"] if name == "Sign" else bare_observation
            assert np.array_equal(observation["frames"][0], frame)
            assert numbers == bare_numbers
        env.close()


@pytest.mark.parametrize("texture", ["cardboard_4", "lava_1", "water_1"])  # RGB, RGBA, a palette
def test_textures_are_decoded_as_pyglet_does(texture: str) -> None:
    from miniworld.utils import get_file_path  # noqa: PLC0415  # once the environment has told pyglet to be headless

    path = get_file_path("textures", texture, "png")
    ours, pyglets = (load(path).get_image_data() for load in (pyglet.image.load, pyglet.image.load.func))
    assert (ours.width, ours.height) == (pyglets.width, pyglets.height)
    rgba = [
        np.frombuffer(image.get_data("RGBA", 4 * image.width), np.uint8).reshape(-1, 4) for image in (ours, pyglets)
    ]
    assert np.array_equal(rgba[0][:, :3], rgba[1][:, :3])  # of RGB, pyglet makes an alpha that is its red


def test_simulators_of_one_process_do_not_share_walls() -> None:
    a, b = unwrapped("MazeS3"), unwrapped("MazeS3")
    alone = [a.reset(seed=1)[0], *(a.step(action)[0] for action in (0, 2, 2, 1))]
    together = [a.reset(seed=1)[0]]
    for action in (0, 2, 2, 1):
        b.reset(seed=2)
        together.append(a.step(action)[0])
    assert all(np.array_equal(x["frames"], y["frames"]) for x, y in zip(alone, together, strict=True))


@pytest.mark.parametrize("name", ["OneRoomS6Fast", "OneRoom"])
def test_description_is_what_the_picture_shows(name: str) -> None:
    env = unwrapped(name)
    ahead = {"OneRoomS6Fast": 22.5, "OneRoom": 7.5}[name]
    half_width = math.tan(math.radians(30)) * 64 / 48
    seen = set()
    for seed in range(60):
        observation, _ = env.reset(seed=seed)
        relation = env.describe().removeprefix("the box is ")
        seen.add(relation)
        red, green, blue = np.moveaxis(observation["frames"][0].astype(int), -1, 0)
        columns = np.nonzero((red > 2 * green) & (red > 2 * blue))[1]
        if relation == "not visible":
            assert len(columns) == 0
            continue
        if len(columns) == 0:
            continue  # a sliver that no pixel shows in full red
        edge = 32 * math.tan(math.radians(ahead)) / half_width  # pixels from the middle
        if relation == "left":
            assert columns.min() < 32 - edge + 1
        elif relation == "right":
            assert columns.max() > 32 + edge - 2
        else:
            assert columns.min() - 1 <= 32 + edge
            assert columns.max() + 1 >= 32 - edge
    assert seen == {"left", "right", "ahead", "not visible"}


@pytest.mark.parametrize(
    ("degrees", "relation"),
    [
        (0, "ahead"),
        (22, "ahead"),
        (-22, "ahead"),
        (24, "left"),
        (-24, "right"),
        (100, "not visible"),
        (-170, "not visible"),
    ],
)
def test_sides(degrees: float, relation: str) -> None:
    env = unwrapped("OneRoomS6Fast")
    env.reset(seed=0)
    env._sim.agent.pos = np.array([3.0, 0.0, 3.0])
    put(env, env._sim.box, 2.0, degrees)
    assert env.describe() == f"the box is {relation}"
    assert env.expert_action() == {"ahead": "forward", "left": "left", "right": "right"}.get(
        relation, "left" if degrees > 0 else "right"
    )


def test_walls_hide() -> None:
    env = unwrapped("FourRooms")
    env.reset(seed=0)
    agent, box = env._sim.agent, env._sim.box
    agent.pos, agent.dir = np.array([-4.0, 0.0, 6.0]), 0.0
    box.pos = np.array([4.0, 0.0, 6.0])  # straight on, behind the wall beside the door
    assert env.describe() == "the box is not visible"
    agent.pos, box.pos = np.array([-4.0, 0.0, 4.0]), np.array([4.0, 0.0, 4.0])  # through the door
    assert env.describe() == "the box is ahead"


@pytest.mark.parametrize("name", WALKING)
def test_expert_succeeds(name: str) -> None:
    env = unwrapped(name)
    for seed in range(3):
        env.reset(seed=seed)
        for _ in range(400):
            text = env.expert_action()
            assert text is not None
            _, reward, terminated, truncated, info = act(env, text)
            if terminated or truncated:
                break
        assert (terminated, truncated, info) == (True, False, {"invalid": False, "success": True})
        assert reward == 1.0 if name == "Sign" else 0.8 < reward <= 1.0
    env.close()


@pytest.mark.parametrize("name", ["PutNext", "RoomObjects", "ThreeRooms"])
def test_no_expert(name: str) -> None:
    env = unwrapped(name)
    env.reset(seed=0)
    assert env.expert_action() is None


def test_invalid_answer_never_succeeds_even_beside_the_goal() -> None:
    env = unwrapped("OneRoomS6Fast")
    env.reset(seed=0)
    put(env, env._sim.box, 1.2, 0)
    assert env.step(None)[1:] == (-0.1, False, False, {"invalid": True})
    _, reward, terminated, _, info = act(env, "left")
    assert (terminated, info["success"]) == (True, True)
    assert reward == pytest.approx(1 - 0.2 * 2 / 50)


def test_invalid_answers_run_into_the_step_limit() -> None:
    env = unwrapped("OneRoomS6Fast")
    env.reset(seed=4)
    ends = [env.step(None)[2:] for _ in range(50)]
    assert ends[:-1] == [(False, False, {"invalid": True})] * 49
    assert ends[-1] == (False, True, {"invalid": True, "success": False})


def test_goal_on_the_last_step_is_not_a_truncation() -> None:
    env = unwrapped("OneRoomS6Fast")
    env.reset(seed=0)
    put(env, env._sim.box, 1.2, 0)
    env._sim.step_count = 49
    assert act(env, "left")[1:] == (0.8, True, False, {"invalid": False, "success": True})


def test_leaving_the_sidewalk_is_no_success() -> None:
    env = unwrapped("Sidewalk")
    env.reset(seed=0)
    env._sim.agent.pos, env._sim.agent.dir = np.array([-0.05, 0.0, 5.0]), 0.0
    assert act(env, "forward")[1:] == (0.0, True, False, {"invalid": False, "success": False})


@pytest.mark.parametrize(("color", "shape", "reward"), [(0, 0, 1.0), (1, 0, -1.0), (0, 1, -1.0)])
def test_sign(color: int, shape: int, reward: float) -> None:
    env = unwrapped("Sign")
    assert env.reset(seed=0)[0]["prompt"].startswith("go to the box of the color on the sign.")
    put(env, env._sim._objects[shape][color], 1.0, 0)
    assert act(env, "left")[1:] == (reward, True, False, {"invalid": False, "success": reward > 0})
    env.reset(seed=0)
    assert act(env, "end")[1:] == (0.0, True, False, {"invalid": False, "success": False})


def test_collect_health() -> None:
    env = unwrapped("CollectHealth")
    env.reset(seed=0)
    steps = [act(env, "toggle") if i % 2 else env.step(None) for i in range(50)]
    assert [step[1] for step in steps[:-1]] == [-0.1, 2.0] * 24 + [-0.1]
    assert steps[-1][1:] == (-100.0, True, False, {"invalid": False, "success": False})
    env.reset(seed=0)  # an answer that nobody can read does not spare the penalty
    steps = [env.step(None) if i % 2 else act(env, "toggle") for i in range(50)]
    assert steps[-1][1:] == (-100.0, True, False, {"invalid": True, "success": False})
    env.reset(seed=0)
    env._sim.step_count = 999
    assert act(env, "left")[1:] == (2.0, False, True, {"invalid": False, "success": True})
    env._sim.agent.pos, env._sim.health = np.array([8.0, 0.0, 8.0]), 10
    put(env, env._targets()[0], 0.6, 0)
    assert env.expert_action() == "pickup"
    act(env, "pickup")
    assert env._sim.health == 100


def test_pickup_objects() -> None:
    env = unwrapped("PickupObjects")
    env.reset(seed=1)
    rewards = []
    for _ in range(400):
        text = env.expert_action()
        assert text is not None
        _, reward, terminated, _, info = act(env, text)
        rewards.append(reward)
        if terminated:
            break
    assert sum(rewards) == 5
    assert info["success"]


def test_put_next() -> None:
    env = unwrapped("PutNext")
    env.reset(seed=0)
    sim = env._sim
    put(env, sim.red_box, 0.9, 0)
    assert env.describe().startswith("the red box is ")
    act(env, "pickup")
    assert sim.agent.carrying is sim.red_box
    assert env.describe().startswith("holding the red box. the yellow box is ")
    sim.yellow_box.pos = sim.red_box.pos * [1, 0, 1] + [0.5, 0, 0]
    _, reward, terminated, _, info = act(env, "drop")
    assert (terminated, info["success"]) == (True, True)
    assert 0.9 < reward < 1


@pytest.mark.parametrize(("name", "limit"), [("RoomObjects", 400), ("ThreeRooms", 400)])
def test_environments_without_a_reward_end_without_success(name: str, limit: int) -> None:
    env = unwrapped(name)
    env.reset(seed=0)
    env._sim.step_count = limit - 1
    assert env.step(0)[1:] == (0.0, False, True, {"invalid": False, "success": False})


@pytest.mark.parametrize("name", TASKS)
def test_actions(name: str) -> None:
    names = {3: 3, 4: 4, 5: 5, 8: 8}
    env = MiniWorld(f"MiniWorld-{name}-v0", width=32, height=24)
    assert env.action_names[:3] == ("turn left", "turn right", "move forward")
    assert len(env.action_names) == names[int(env.action_space.n)]
    with pytest.raises(ValueError, match="not in Discrete"):
        env.step(int(env.action_space.n))
    env.close()


def test_unknown_name() -> None:
    with pytest.raises(ValueError, match="not a MiniWorld environment"):
        MiniWorld("OneRoom")


@pytest.mark.parametrize("library", ["GL", "EGL", "GLU"])
def test_missing_library_names_the_packages(library: str) -> None:
    code = f"""
import pyglet.lib
load = pyglet.lib.loader.load_library
def missing(*names, **options):
    if {library!r} in names:
        raise ImportError('Library "{library}" not found.')
    return load(*names, **options)
pyglet.lib.loader.load_library = pyglet.lib.load_library = missing
from envs.base import SimulatorError
try:
    from envs.miniworld.env import MiniWorld
    MiniWorld("MiniWorld-OneRoom-v0")
except SimulatorError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.count("\n") == 1
    assert "libegl1 libgl1 libglu1-mesa libfreetype6" in result.stdout
    assert library in result.stdout


@pytest.mark.parametrize(
    "module",
    [
        "from envs.miniworld.env import MiniWorld; MiniWorld('MiniWorld-OneRoom-v0')",
        "from benchmarks.suites.vsi_bench.renderer import _simulator; _simulator(64, 48)",
    ],
)
@pytest.mark.parametrize("error", ["NoSuchConfigException", "NoSuchDisplayException", ""])
def test_no_driver_names_the_packages(module: str, error: str) -> None:
    patch = f"pyglet.window.Window.__init__ = lambda *_, **__: fail(pyglet.window.{error}('none'))" if error else ""
    code = f"""
import pyglet
pyglet.options["headless"] = True
def fail(error):
    raise error
if {bool(patch)}:
    import pyglet.window
    {patch}
from envs.base import SimulatorError
try:
    {module}
except SimulatorError as error:
    print(error)
"""
    # Without a patch, the loader of EGL looks for drivers where there are none.
    environment = os.environ | ({} if error else {"__EGL_VENDOR_LIBRARY_DIRS": "/nonexistent"})
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert result.stdout.count("\n") == 1
    assert "libegl-mesa0 libgl1-mesa-dri" in result.stdout
